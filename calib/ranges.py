"""Measure the range of every activation on images that stream through the float model."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto

from imf_deploy.calib.model import FloatModel
from imf_deploy.calib.threshold import (
    PERCENTILE,
    Histogram,
    Range,
    entropy_range,
    mse_range,
    percentile_range,
)
from imf_deploy.compat import usable_cpus
from imf_deploy.data import Split, eval_batches
from imf_deploy.errors import ImfDeployError
from imf_deploy.progress import track
from imf_deploy.settings.quantize import Method

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


Ranges = dict[str, Range]
"""For each tensor, the smallest and the largest value that INT8 represents."""

_FROM_HISTOGRAM: dict[Method, Callable[[Histogram], Range]] = {
    "entropy": entropy_range,
    "percentile": percentile_range,
    "mse": mse_range,
}


def measure_ranges(model: FloatModel, images: Split, method: Method) -> Ranges:
    """Return the range of every float activation of a model.

    Images are read once for ``minmax``, otherwise twice: once for the extremes, once for histograms between
    them. Memory depends only on the number of tensors. (onnxruntime's own histogram calibrators keep every
    activation of a data reader until it ends.)

    Args:
        model: The float model.
        images: Images to run it on.
        method: How ranges are chosen.

    Raises:
        ImfDeployError: an activation is not finite.
    """
    observer = Observer(model)
    passes = 1 if method == "minmax" else 2
    with track("Measuring activation ranges", passes * len(images)) as advance:
        extremes = _extremes(model, observer, images, advance)
        if method == "minmax":
            return extremes
        histograms = {name: Histogram(low, high) for name, (low, high) in extremes.items()}
        for activations in observer.batches(images):
            for name, values in activations.items():
                histograms[name].add(values)
            advance(len(activations[model.input]))
    return {name: _FROM_HISTOGRAM[method](histogram) for name, histogram in histograms.items()}


def method_key(method: Method) -> str:
    """Return the method with its parameters, as the key of a cache needs them."""
    return f"percentile {PERCENTILE}" if method == "percentile" else method


def _extremes(model: FloatModel, observer: Observer, images: Split, advance: Callable[[int], None]) -> Ranges:
    # Zero is always included: padding and ReLU need it to be exact.
    extremes: Ranges = dict.fromkeys(observer.tensors, (0.0, 0.0))
    for activations in observer.batches(images):
        for name, values in activations.items():
            low, high = float(values.min(initial=0)), float(values.max(initial=0))
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ImfDeployError(
                    f"the activation '{name}' of {model.artifact.path} is not finite on a calibration image",
                    "Check the model in float first",
                )
            extremes[name] = (min(extremes[name][0], low), max(extremes[name][1], high))
        advance(len(activations[model.input]))
    return extremes
