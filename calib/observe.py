"""Run a float model and yield every activation, one batch at a time."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto

from imf_deploy.calib.model import FloatModel
from imf_deploy.compat import usable_cpus
from imf_deploy.data import Split, eval_batches
from imf_deploy.errors import ImfDeployError

Activations = dict[str, npt.NDArray[np.float32]]
# Pixels in one batch: the activations of MobileNetV2 at 224 pixels take 55 MB per image.
_PIXELS = 1 << 15
_LARGEST_BATCH = 32


class Observer:
    """A session of a float model with activations as outputs.

    Args:
        model: The model.
    """

    def __init__(self, model: FloatModel) -> None:
        import onnxruntime

        self._model = model
        exposed, self.tensors = _expose(model.proto, model.input)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_cpus()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # nothing is timed here
        options.log_severity_level = 4  # errors are raised anyway
        # Fusing would remove the requested activations.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(
                exposed.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors share no base class
            raise ImfDeployError(
                f"ONNX Runtime cannot run {model.artifact.path}: {str(error).splitlines()[0]}",
                "Export it again",
            ) from error

    def batches(self, images: Split) -> Iterator[Activations]:
        """Yield the activations of a few images, by tensor; the next batch replaces them."""
        model = self._model
        size = min(max(_PIXELS // model.preprocess.size**2, 1), _LARGEST_BATCH) if model.free_batch else 1
        for pictures, _ in eval_batches(images, model.preprocess, size):
            batch = np.ascontiguousarray(pictures.numpy())
            values = self._session.run(self.tensors[1:], {model.input: batch})
            yield dict(zip(self.tensors, [batch, *values], strict=True))


def _expose(model: ModelProto, input_name: str) -> tuple[ModelProto, list[str]]:
    """Return a copy whose float activations are outputs, and their names, the input first."""
    exposed = ModelProto()
    exposed.CopyFrom(model)
    produced = {name for node in model.graph.node for name in node.output}
    outputs = {value.name for value in model.graph.output}
    known = [*model.graph.value_info, *model.graph.output]
    floats = {
        value.name: value
        for value in known
        if value.name in produced and value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    exposed.graph.output.extend(value for name, value in floats.items() if name not in outputs)
    return exposed, [input_name, *floats]
