"""Run an ONNX file from any exporter in ONNX Runtime."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from imf_deploy.compat import usable_cpus
from imf_deploy.errors import DeviceError, ImfDeployError
from imf_deploy.runners.base import INPUT_TYPES, Batch, Borrowed, InputShape, Logits, Runner
from imf_deploy.runners.logits import find_logits, named_output, read_logits
from imf_deploy.runners.onnx_data import check_onnx_data

_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (?:Load model from .*? failed:\s*)?")
_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"} | {
    f"tensor({name})": name for name in INPUT_TYPES if "int" in name
}
_EXACT_SUMS = "session.x64quantprecision"
_QUANTISES_FLOATS = "WeightBiasQuantization"
_SPINNING = "session.intra_op.allow_spinning"
_NO_FALLBACK = "session.disable_cpu_ep_fallback"
CPU = ("CPUExecutionProvider",)
PROVIDERS: dict[str, tuple[str, ...]] = {
    "cpu": CPU,
    "cuda": ("CUDAExecutionProvider", *CPU),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", *CPU),
    "rtx": ("NvTensorRTRTXExecutionProvider", "CUDAExecutionProvider", *CPU),
}
"""Short name to execution providers, in order of preference: operators that one cannot run use the next."""


class OnnxRuntimeRunner:
    """An ONNX file with one input.

    ``infer`` returns the logits if ``classes`` is given, otherwise the output that ``logits`` names, or the
    first one, unchanged.

    On a GPU the session is first required to run every operator there (``session.disable_cpu_ep_fallback``).
    If it cannot, the file is loaded again with the CPU for the rest, which ``session`` reports.

    Args:
        path: The file.
        threads: Threads for one operator; by default every CPU that this process may use, because ONNX
            Runtime's own default ignores affinity masks and cgroup quotas.
        providers: Execution providers, in order of preference. The first one must be available: ONNX Runtime
            would only log that it falls back to the CPU.
        device_id: Index of the GPU, for providers that use one.
        any_type: Whether to accept an input of any type in ``INPUT_TYPES``, not only float32.
        exact_sums: Whether to widen the int8 products that saturate on x86 processors without VNNI, so that
            this machine answers like all others. It is slower there, and changes nothing elsewhere.
        keep_floats: Whether to keep ONNX Runtime from quantising biases and weights that are floats in the
            file. TensorRT does not quantise them, and for fp16 ones ONNX Runtime gives wrong numbers.
        classes: Number of classes. The first inference determines the output that holds the logits; see
            :func:`imf_deploy.runners.logits.find_logits`.
        logits: Name of an output; if empty, it is chosen.
        spin: Whether threads spin while they wait for work, as is ONNX Runtime's default. If not, work that
            is not timed uses less processor time, and less time next to a busy neighbour.
    """

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        providers: Sequence[str] = CPU,
        device_id: int = 0,
        *,
        any_type: bool = False,
        exact_sums: bool = False,
        keep_floats: bool = False,
        spin: bool = True,
        classes: int | None = None,
        logits: str = "",
    ) -> None:
        short = providers[0].removesuffix("ExecutionProvider")
        self.name = "onnxruntime" if tuple(providers) == CPU else f"onnxruntime {short}"
        self.input_name, self.input_type = "", "float32"
        self.input_shape: InputShape = ()
        self.output_name = ""
        self.session: dict[str, Any] = {}
        self._classes, self._wanted = classes, logits
        self._types = INPUT_TYPES if any_type else INPUT_TYPES[:1]
        self._disabled = [_QUANTISES_FLOATS] if keep_floats else []
        self._settings = ({_EXACT_SUMS: "1"} if exact_sums else {}) | ({} if spin else {_SPINNING: "0"})
        self._path = path
        self._threads = threads or usable_cpus()
        self._providers = tuple(providers)
        self._device_id = device_id
        self._session: Any = None
        self._outputs: list[str] = []

    def __enter__(self) -> Self:
        """Load and optimise the file at the highest level, and set the attributes that are known after entry.

        Raises:
            UsageError: there is no such file, or no output of the given name.
            DeviceError: the first provider is not available on this machine.
            ImfDeployError: the file is damaged, reads data outside its own folder, or is not a network with
                one input of an accepted type.
        """
        import onnxruntime

        check_onnx_data(self._path)
        available = onnxruntime.get_available_providers()
        if self._providers[0] not in available:
            raise DeviceError(
                f"ONNX Runtime has no {self._providers[0]} here, only {', '.join(available)}",
                "Install the ONNX Runtime package that includes it (onnxruntime-gpu for CUDA and TensorRT), "
                "or use the CPUExecutionProvider",
            )
        if self._providers[0] not in CPU:
            # Sessions on a GPU log their fallbacks to the process's logger; errors are raised anyway.
            onnxruntime.set_default_logger_severity(4)
            if hasattr(onnxruntime, "preload_dlls"):
                onnxruntime.preload_dlls()  # the CUDA libraries from PyTorch or PyPI
        providers = [name for name in self._providers if name in available]
        try:
            session, on_cpu = self._start(onnxruntime, providers)
        except Exception as error:  # its errors share no base class
            raise ImfDeployError(
                f"ONNX Runtime cannot load {self._path}: {_reason(error)}",
                "Check that it is a complete ONNX file, or export it again",
            ) from error
        if session.get_providers()[0] != self._providers[0]:
            raise DeviceError(
                f"ONNX Runtime cannot start its {self._providers[0]} here",
                "Check the driver, or use the CPUExecutionProvider",
            )
        inputs = session.get_inputs()
        if len(inputs) != 1 or _TYPES.get(inputs[0].type) not in self._types:
            types = ", ".join(f"{i.name}: {i.type}" for i in inputs) or "none"
            taken = " or ".join(self._types)
            raise ImfDeployError(f"{self._path} must have one {taken} input, but it has {types}")
        self.input_name, self.input_type = inputs[0].name, _TYPES[inputs[0].type]
        self._outputs = [output.name for output in session.get_outputs()]
        if self._classes is None or len(self._outputs) == 1:
            self.output_name = named_output(self._path, self._outputs, self._wanted)
        # A free dimension is given as its name, or as None if it has no name.
        self.input_shape = tuple(d if isinstance(d, int) else None for d in inputs[0].shape)
        self._session = session
        self.session = {"providers": session.get_providers(), "operators_on_cpu": on_cpu}
        return self

    def _start(self, onnxruntime: Any, providers: list[str]) -> tuple[Any, bool]:
        """Return a session, and whether any of its operators runs on the CPU."""

        def session(providers: list[str], settings: dict[str, str]) -> Any:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self._threads
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
            options.log_severity_level = 4  # errors are raised anyway
            for key, value in {**self._settings, **settings}.items():
                options.add_session_config_entry(key, value)
            own = [self._provider_options(name) for name in providers]
            return onnxruntime.InferenceSession(
                str(self._path),
                options,
                providers=providers,
                provider_options=own,
                disabled_optimizers=self._disabled,
                enable_fallback=0,  # Python's own fallback, which would use other providers
            )

        if self._providers[0] in CPU:
            return session(providers, {}), True
        try:
            # The CPU must not be listed with this setting.
            strict = [name for name in providers if name not in CPU]
            return session(strict, {_NO_FALLBACK: "1"}), False
        except Exception as error:  # its errors share no base class
            if "fallback to CPU EP" not in str(error):
                raise
        return session(providers, {}), True

    def _provider_options(self, provider: str) -> dict[str, str]:
        """Return the GPU's index, and float32 without TF32 in CUDA, as in engines."""
        if provider in CPU:
            return {}
        exact = {"use_tf32": "0"} if provider.startswith("CUDA") else {}
        return {"device_id": str(self._device_id), **exact}

    def __exit__(self, *_: object) -> None:
        """Release the session and its threads."""
        self._session = None

    def infer(self, batch: Batch) -> Logits:
        """Return the logits, ``float32 [N, classes]``, or one output unchanged; see the class.

        Raises:
            UsageError: no output fits the given number of classes.
            ImfDeployError: the file does not accept this batch, or the runner was not entered.
        """
        if self._session is None:
            raise ImfDeployError("this OnnxRuntimeRunner is not open", "Use it in a with statement")
        asked = [self.output_name] if self.output_name else self._outputs
        values = dict(zip(asked, self._run(asked, batch), strict=True))
        if self._classes is None:
            first: Logits = values[self.output_name]
            return first
        if not self.output_name:
            self.output_name = find_logits(self._path, values, len(batch), self._classes, self._wanted)
        return read_logits(self._path, self.output_name, values[self.output_name], len(batch), self._classes)

    def share(self) -> Runner:
        """Return a runner of the same session for another thread; sessions accept calls from all threads."""
        return Borrowed(self.name, self.infer)

    def _run(self, outputs: list[str], batch: Batch) -> list[Any]:
        """Return the values of some outputs for a batch."""
        try:
            values: list[Any] = self._session.run(outputs, {self.input_name: batch})
        except Exception as error:  # its errors share no base class
            raise ImfDeployError(
                f"{self._path} fails on an input of shape {list(batch.shape)}: {_reason(error)}",
                f"Its input is declared as {list(self.input_shape)}; None is free",
            ) from error
        return values


def _reason(error: Exception) -> str:
    """Return the first line of an ONNX Runtime error without its number and the path."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return _PREFIX.sub("", first).rstrip(". ")
