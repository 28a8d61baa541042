"""Run a module, or a product of a student, in PyTorch."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from imf_deploy.compat import usable_cpus
from imf_deploy.errors import ImfDeployError, first_line
from imf_deploy.runners.base import Batch, Borrowed, GpuTimes, InputShape, Logits, Runner
from imf_deploy.runners.cuda import CudaPipe, use_device
from imf_deploy.tasks.names import INPUT

if TYPE_CHECKING:
    import torch
    from torch import nn

    from imf_deploy.method.products import Product

PyTorchMode = Literal["eager", "channels-last", "compile", "max-autotune"]
"""How a module runs: eagerly, with its weights and input in NHWC order, or by ``torch.compile`` in its
default mode or in the mode that times kernels to find the fastest."""
PYTORCH_MODES: tuple[PyTorchMode, ...] = get_args(PyTorchMode)
# The runner captures CUDA graphs itself, if requested.
_COMPILE_MODES: dict[PyTorchMode, str] = {
    "compile": "default",
    "max-autotune": "max-autotune-no-cudagraphs",
}


class PyTorchRunner:
    """A module in evaluation mode; the runner works on a copy.

    Args:
        module: Module that takes ``float32 [N, C, H, W]`` and returns ``[N, classes]``.
        device: ``cpu``, ``cuda``, ``cuda:1`` … Copies to and from it are part of ``infer``.
        threads: Threads of PyTorch's pool; by default every CPU that this process may use. The count is
            global to the process: it is set for this runner's calls, and restored on exit.
        input_shape: Input shape of the module, ``[N, C, H, W]``; ``None`` is a free dimension.
        mode: How it runs. ``compile`` and ``max-autotune`` compile at the first inference of every shape.
        cuda_graph: Whether the run of every new shape on a CUDA device is captured as a CUDA graph.
    """

    name = "pytorch"
    input_name, input_type = INPUT, "float32"

    def __init__(
        self,
        module: nn.Module | None,
        device: str = "cpu",
        threads: int | None = None,
        input_shape: InputShape = (None, 3, None, None),
        mode: PyTorchMode = "channels-last",
        *,
        cuda_graph: bool = False,
    ) -> None:
        self.input_shape = input_shape
        self._module = module
        self._device = device
        self._threads = threads or usable_cpus()
        self._mode = mode
        self._cuda_graph = cuda_graph
        self._before = 0
        self._tf32_before = True
        self._model: Any = None
        self._pipe: CudaPipe | None = None
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        """Copy the module to its device.

        Raises:
            DeviceError: the device does not exist.
        """
        import torch

        if self._device.startswith("cuda"):
            use_device(self._device)
            self._pipe = CudaPipe()
            # TF32 is PyTorch's default for convolutions; float32 is computed in float32 here, as in engines.
            self._tf32_before = torch.backends.cudnn.allow_tf32
            torch.backends.cudnn.allow_tf32 = False
        model: Any = copy.deepcopy(self._module)
        model.eval().to(device=torch.device(self._device), memory_format=self._format())
        compiled = _COMPILE_MODES.get(self._mode)
        self._model = torch.compile(model, dynamic=False, mode=compiled) if compiled else model
        self._before = torch.get_num_threads()
        return self

    def __exit__(self, *_: object) -> None:
        """Release the copy and restore the thread count of the process."""
        import torch

        if self._pipe is not None:
            self._pipe.close()
            torch.backends.cudnn.allow_tf32 = self._tf32_before
        torch.set_num_threads(self._before)
        self._model, self._pipe, self._shape = None, None, ()

    def infer(self, batch: Batch) -> Logits:
        """Return the logits, ``float32 [N, classes]``; returns when they are in host memory.

        Raises:
            ImfDeployError: the runner was not entered, or ``torch.compile`` fails.
        """
        import torch

        if self._model is None:
            raise ImfDeployError(f"this {type(self).__name__} is not open", "Use it in a with statement")
        # Two runners may be open at once with different counts; querying costs far less than setting.
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            if self._pipe is not None:
                return self._bound(self._pipe, batch).infer(batch)
            logits: Logits = self._run(torch.from_numpy(batch)).float().numpy()
        return logits

    def trace(self, batch: Batch) -> GpuTimes | None:
        """Run once more on the GPU, and return times of enqueue, copies and compute; ``None`` on the CPU."""
        import torch

        if self._model is None or self._pipe is None:
            return None
        with torch.inference_mode():
            return self._bound(self._pipe, batch).trace(batch)

    def share(self) -> Runner:
        """Return a runner of the same module for another thread; on a GPU with its own stream."""
        if self._pipe is None:
            return Borrowed(self.name, self.infer)
        other = copy.copy(self)
        other._pipe, other._shape = CudaPipe(), ()
        return Borrowed(self.name, other.infer, other._pipe.close)

    def _format(self) -> torch.memory_format:
        """Return the order of weights and input; ``torch.compile`` chooses its own internally."""
        import torch

        return torch.channels_last if self._mode == "channels-last" else torch.contiguous_format

    def _run(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor
        if self._mode not in _COMPILE_MODES:
            logits = self._model(images.contiguous(memory_format=self._format()))
            return logits
        try:
            logits = self._model(images)
        except Exception as error:  # any part of the compiler may raise
            raise ImfDeployError(
                f"torch.compile cannot run this network ({first_line(error)})",
                f"It needs a C++ compiler such as g++; or leave `pytorch` {self._mode} out",
            ) from error
        return logits

    def _bound(self, pipe: CudaPipe, batch: Batch) -> CudaPipe:
        """Return the pipe, bound to the shape of a batch."""
        import torch

        if batch.shape == self._shape:
            return pipe
        self._shape = ()
        source = torch.zeros(batch.shape, device=self._device)
        torch.cuda.synchronize()
        with torch.cuda.stream(pipe.stream):
            result = torch.empty_like(self._run(source).float())

        def execute() -> None:
            result.copy_(self._run(source))

        pipe.bind(source, result, execute, cuda_graph=self._cuda_graph)
        self._shape = batch.shape
        return pipe


class ProductRunner(PyTorchRunner):
    """A ``.safetensors`` file that ``imf-deploy strip`` wrote, with its sidecar, or a product in memory.

    The file is read once; each entry runs a fresh copy of the weights, at other addresses.

    Args:
        source: The file, or the product.
        device: See :class:`PyTorchRunner`, also for the other arguments.
        threads: Threads of PyTorch's pool.
        mode: How the network runs.
        cuda_graph: Whether runs on a CUDA device are captured as CUDA graphs.
    """

    def __init__(
        self,
        source: Path | Product,
        device: str = "cpu",
        threads: int | None = None,
        mode: PyTorchMode = "channels-last",
        *,
        cuda_graph: bool = False,
    ) -> None:
        super().__init__(None, device, threads, (), mode, cuda_graph=cuda_graph)
        self._source = source

    def __enter__(self) -> Self:
        """Build the network and read its weights; sets ``input_shape``.

        Raises:
            UsageError: there is no such file.
            DeviceError: the device does not exist.
            ImfDeployError: the file is not a product, or is damaged.
        """
        from imf_deploy.method.products import load_product

        if self._module is None:
            product = load_product(self._source) if isinstance(self._source, Path) else self._source
            self._module = product.module
            self.input_shape = (None, *product.shape)
        return super().__enter__()
