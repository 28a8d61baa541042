"""Run an ONNX file in OpenVINO on the CPU; an optional runtime in addition to ONNX Runtime."""

import copy
from pathlib import Path
from typing import Any, Self

from imf_deploy.compat import usable_cpus
from imf_deploy.errors import ImfDeployError
from imf_deploy.runners.base import INPUT_TYPES, Batch, Borrowed, InputShape, Logits, Runner
from imf_deploy.runners.logits import named_output
from imf_deploy.runners.onnx_data import check_onnx_data

_TYPES = {"f32": "float32", "f16": "float16", "u8": "uint8", "i8": "int8", "i32": "int32", "i64": "int64"}


class OpenVinoRunner:
    """The same ONNX file that ONNX Runtime reads; ``infer`` returns one output unchanged.

    Every new shape is compiled separately at its first inference, because OpenVINO is slower with a free
    batch.

    Args:
        path: The file.
        threads: Threads of one inference; by default every CPU that this process may use.
        any_type: Whether to accept an input of any type in ``INPUT_TYPES``, not only float32.
        logits: Name of the output; if empty, the first.
    """

    name = "openvino"

    def __init__(
        self, path: Path, threads: int | None = None, *, any_type: bool = False, logits: str = ""
    ) -> None:
        self.input_name, self.input_type = "", "float32"
        self.output_name, self._wanted = "", logits
        self._types = INPUT_TYPES if any_type else INPUT_TYPES[:1]
        self.input_shape: InputShape = ()
        self._path = path
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads or usable_cpus()),
            # Otherwise it would silently compute fp32 files in bf16 on CPUs with AMX.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._core: Any = None
        self._model: Any = None
        self._compiled: Any = None
        self._request: Any = None
        self._output = 0
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        """Read the file and set the attributes known after entry; compile at once if the shape is fixed.

        Raises:
            UsageError: there is no such file, or no output of the given name.
            ImfDeployError: OpenVINO is not installed, or the file is damaged, reads data outside its own
                folder, or is not a network with one input of an accepted type.
        """
        check_onnx_data(self._path)
        try:
            import openvino
            from openvino.frontend import FrontEndManager
        except ImportError as error:
            raise ImfDeployError(
                f"OpenVINO cannot be imported ({error})",
                'Install it with: pip install "imf-deploy[openvino]"',
            ) from error
        self._core = openvino.Core()
        try:
            # Core.read_model would try every format that OpenVINO supports.
            frontend = FrontEndManager().load_by_framework("onnx")
            self._model = frontend.convert(frontend.load(str(self._path)))
        except Exception as error:  # a RuntimeError for every problem
            raise ImfDeployError(
                f"OpenVINO cannot read {self._path}: {_reason(error)}",
                "Check that it is a complete ONNX file, or export it again",
            ) from error
        inputs = self._model.inputs
        if len(inputs) != 1 or _TYPES.get(inputs[0].element_type.get_type_name()) not in self._types:
            types = ", ".join(f"{i.any_name}: {i.element_type}" for i in inputs) or "none"
            taken = " or ".join(self._types)
            raise ImfDeployError(f"{self._path} must have one {taken} input, but it has {types}")
        self.input_name = inputs[0].any_name
        self.input_type = _TYPES[inputs[0].element_type.get_type_name()]
        self.input_shape = tuple(
            None if dim.is_dynamic else dim.get_length() for dim in inputs[0].partial_shape
        )
        # Inner names of the same tensor also count.
        names = [sorted(output.names) for output in self._model.outputs]
        self.output_name = named_output(self._path, [name for some in names for name in some], self._wanted)
        self._output = next(index for index, some in enumerate(names) if self.output_name in some)
        if None not in self.input_shape:
            self._compile(tuple(dim or 0 for dim in self.input_shape))
        return self

    def __exit__(self, *_: object) -> None:
        """Release the compiled network and its threads."""
        self._request = self._compiled = self._model = self._core = None
        self._shape = ()

    def infer(self, batch: Batch) -> Logits:
        """Return the chosen output.

        Raises:
            ImfDeployError: the file does not accept this batch, or the runner was not entered.
        """
        if self._model is None:
            raise ImfDeployError("this OpenVinoRunner is not open", "Use it in a with statement")
        if batch.shape != self._shape:
            self._compile(batch.shape)
        self._request.infer([batch], share_inputs=True)
        # A copy is needed because the next run writes into the same buffer.
        logits: Logits = self._request.get_output_tensor(self._output).data.copy()
        return logits

    def share(self) -> Runner:
        """Return a runner with its own request for another thread."""
        other = copy.copy(self)
        if self._compiled is not None:
            other._request = self._compiled.create_infer_request()
        return Borrowed(self.name, other.infer)

    def _compile(self, shape: tuple[int, ...]) -> None:
        """Compile the network for one shape."""
        self._shape = ()
        try:
            if shape != self.input_shape:
                self._model.reshape(list(shape))
            self._compiled = self._core.compile_model(self._model, "CPU", self._settings)
            self._request = self._compiled.create_infer_request()
        except Exception as error:  # a RuntimeError for every problem
            raise ImfDeployError(
                f"{self._path} fails in OpenVINO on an input of shape {list(shape)}: {_reason(error)}",
                f"Its input is declared as {list(self.input_shape)}; None is free",
            ) from error
        self._shape = shape


def _reason(error: Exception) -> str:
    """Return the last informative line of an OpenVINO error: the first ones name its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(". ")
