"""Run an engine of TensorRT or TensorRT-RTX; the header of the file determines which."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.background import run_in_background
from imf_deploy.export.choice import choose_profile
from imf_deploy.export.engine_header import EngineHeader, read_engine_header
from imf_deploy.export.flavour import LIBRARIES
from imf_deploy.export.library_log import library_log
from imf_deploy.export.refit import lacks_weights
from imf_deploy.runners.base import Batch, Borrowed, GpuTimes, InputShape, Logits, Runner
from imf_deploy.runners.cuda import CudaPipe, use_device
from imf_deploy.runners.engine_facts import (
    engine_host_code,
    refusal,
    require_gpu,
    require_weights,
    without_weights,
)
from imf_deploy.runners.engine_layers import EngineLayer, profile_layers
from imf_deploy.settings import BatchRange
from imf_deploy.settings.export import Flavour

if TYPE_CHECKING:
    import torch

_FLOATS = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}


class TensorRTRunner:
    """An engine with one float input; its first output is used as the logits.

    ``infer`` copies from host to device, runs, and copies back, on a separate stream.

    Args:
        path: The file.
        cuda_graph: Whether to capture the run as a CUDA graph for every new shape, after one eager run.
        device: ``cuda``, ``cuda:1`` …
    """

    name = "tensorrt"
    input_type = "float32"  # converted to the engine's type on the way to the device

    def __init__(self, path: Path, *, cuda_graph: bool = True, device: str = "cuda") -> None:
        self.input_name = ""
        self.input_shape: InputShape = ()
        self._path = path
        self._cuda_graph = cuda_graph
        self._flavour: Flavour = "tensorrt"
        self._runtime: Any = None  # must live as long as the engine
        self._engine: Any = None
        self._context: Any = None
        self._device = device
        self._pipe: CudaPipe | None = None
        self._outputs: list[str] = []
        self._profiles: list[BatchRange] = []
        self._shape: tuple[int, ...] = ()
        self._buffers: dict[str, torch.Tensor] = {}  # of all outputs, including those that are not read

    def __enter__(self) -> Self:
        """Check the header and the GPU, then load the engine; sets ``name`` and ``input_shape``.

        Raises:
            UsageError: there is no such file.
            DeviceError: there is no CUDA device, or not the one that the engine was built for.
            ImfDeployError: the file is damaged, its library is not installed, or the library refuses the
                engine.
        """
        header = read_engine_header(self._path)
        if ":" in self._device:
            use_device(self._device)
        require_weights(self._path)
        require_gpu(self._path, header)
        trt = load_library(header)
        self.name = LIBRARIES[header.flavour].module
        self._pipe = CudaPipe()
        run_in_background(lambda: self._load(trt, header))
        return self

    def __exit__(self, *_: object) -> None:
        """Release the graph and the buffers, then the context and its owners."""
        if self._pipe is not None:
            self._pipe.close()
        self._buffers, self._shape = {}, ()
        self._context = self._engine = self._runtime = self._pipe = None

    def infer(self, batch: Batch) -> Logits:
        """Return the first output, ``float32 [N, classes]``; returns when it is in host memory.

        Raises:
            ImfDeployError: the engine does not accept this shape, a run fails, or the runner was not entered.
        """
        return self._bound(batch).infer(batch)

    def trace(self, batch: Batch) -> GpuTimes:
        """Run once more, and return times of enqueue, copies and compute.

        Raises:
            ImfDeployError: see :meth:`infer`.
        """
        return self._bound(batch).trace(batch)

    def share(self) -> Runner:
        """Return a runner of the same engine for another thread, with its own context and stream.

        Raises:
            ImfDeployError: the GPU has no memory for another context.
        """
        other = copy.copy(self)
        other._context = self._new_context(importlib.import_module(self.name))
        other._pipe, other._buffers, other._shape = CudaPipe(), {}, ()
        return Borrowed(self.name, other.infer, other._pipe.close)

    def layers(self, batch: Batch, runs: int) -> list[EngineLayer]:
        """Return the layers that the engine runs for a batch, with the time of each.

        Args:
            batch: Input of every run.
            runs: Number of runs; the times are their medians.

        Raises:
            ImfDeployError: the runner replays CUDA graphs, which cannot be profiled; see also :meth:`infer`.
        """
        if self._cuda_graph:
            raise ImfDeployError("layers cannot be timed inside a CUDA graph", "Use cuda_graph=False")
        pipe = self._bound(batch)
        trt = importlib.import_module(self.name)
        return profile_layers(trt, self._engine, self._context, lambda: pipe.infer(batch), runs)

    def _new_context(self, trt: Any) -> Any:
        """Create an execution context."""
        context = _context(trt, self._engine, self._flavour)
        if context is None:
            reason = library_log(self._flavour).reason()
            raise ImfDeployError(f"{self._path} cannot be started: {reason}", "Free GPU memory")
        return context

    def _load(self, trt: Any, header: EngineHeader) -> None:
        """Deserialise the engine and make it ready to run."""
        log = library_log(header.flavour)
        log.clear()
        self._runtime = trt.Runtime(log)
        if engine_host_code(self._path, header):
            self._runtime.engine_host_code_allowed = True
        engine = self._runtime.deserialize_cuda_engine(self._path.read_bytes()[header.offset :])
        if engine is None:
            raise refusal(self._path, header, trt.__version__, log.reason())
        if lacks_weights(trt, engine, log):
            raise without_weights(self._path)
        self._engine = engine
        self._read_tensors(trt)
        self._flavour = header.flavour
        self._context = self._new_context(trt)

    def _read_tensors(self, trt: Any) -> None:
        """Read names, shape and types from the engine itself."""
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if name not in inputs]
        types = {name: engine.get_tensor_dtype(name).name for name in names}
        if len(inputs) != 1 or not self._outputs or not set(types.values()) <= _FLOATS.keys():
            raise ImfDeployError(f"{self._path} needs one float input and float outputs, but has {types}")
        self.input_name = inputs[0]
        self.input_shape = tuple(d if d >= 0 else None for d in engine.get_tensor_shape(self.input_name))
        shapes = [
            engine.get_tensor_profile_shape(self.input_name, index)
            for index in range(engine.num_optimization_profiles)
        ]
        self._profiles = [BatchRange(*(shape[0] for shape in profile)) for profile in shapes]

    def _bound(self, batch: Batch) -> CudaPipe:
        """Return the pipe, bound to the shape of a batch."""
        if self._context is None or self._pipe is None:
            raise ImfDeployError("this TensorRTRunner is not open", "Use it in a with statement")
        if batch.shape != self._shape:
            pipe = self._pipe
            run_in_background(lambda: self._bind(pipe, batch.shape))
        return self._pipe

    def _bind(self, pipe: CudaPipe, shape: tuple[int, ...]) -> None:
        """Allocate buffers for a shape, run once, and capture the graph again."""
        import torch

        self._shape = ()
        pipe.stream.synchronize()
        profile = choose_profile(self._profiles, shape[0])
        if profile is None or not self._take(pipe, profile, shape):
            accepted = ", or ".join(f"{batch.min} to {batch.max}" for batch in self._profiles)
            raise ImfDeployError(
                f"{self._path} does not accept an input of shape {list(shape)}",
                f"It was built for batches of {accepted} of {list(self.input_shape[1:])}",
            )
        for name in (self.input_name, *self._outputs):
            size = tuple(self._context.get_tensor_shape(name))
            kind = getattr(torch, _FLOATS[self._engine.get_tensor_dtype(name).name])
            self._buffers[name] = torch.empty(size, dtype=kind, device="cuda")
            if not self._context.set_tensor_address(name, self._buffers[name].data_ptr()):
                raise ImfDeployError(f"{self._path} does not accept a buffer for {name}")
        source, result = self._buffers[self.input_name], self._buffers[self._outputs[0]]
        pipe.bind(source, result, lambda: self._execute(pipe), cuda_graph=self._cuda_graph)
        self._shape = shape

    def _take(self, pipe: CudaPipe, profile: int, shape: tuple[int, ...]) -> bool:
        """Switch to a profile and set the shape of the input; return whether the engine accepts it."""
        context = self._context
        if context.active_optimization_profile != profile:
            if not context.set_optimization_profile_async(profile, pipe.stream.cuda_stream):
                return False
            pipe.stream.synchronize()
        return bool(context.set_input_shape(self.input_name, shape)) and not context.infer_shapes()

    def _execute(self, pipe: CudaPipe) -> None:
        """Enqueue one run on the runner's stream."""
        if not self._context.execute_async_v3(pipe.stream.cuda_stream):
            raise ImfDeployError(f"{self._path} fails to run", "Check the GPU with nvidia-smi")


def load_library(header: EngineHeader) -> Any:
    """Import the library that built an engine.

    Raises:
        ImfDeployError: the library is not installed or does not load.
    """
    library = LIBRARIES[header.flavour]
    try:
        return importlib.import_module(library.module)
    except (ImportError, OSError) as error:
        package = library.module.replace("_", "-")
        raise ImfDeployError(
            f"{library.name} cannot be imported ({error})",
            f'Install it with: pip install "{package}=={header.version}"',
        ) from error


def _context(trt: Any, engine: Any, flavour: Flavour) -> Any:
    """Create the execution context; kernels of an RTX engine are specialised at once."""
    if flavour != "rtx":
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    # LAZY would run a fallback kernel until the compiler finishes, during a measurement.
    config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    return engine.create_execution_context(config)
