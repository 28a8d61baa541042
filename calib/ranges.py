"""Measure the range of every activation on images, and store the ranges for both targets and any gate."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

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
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import fingerprint, read_json, write_json
from imf_deploy.portability.session import cpu_session
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
        self._model = model
        exposed, self.tensors = _expose(model.proto, model.input)
        try:
            # Fusing would remove the requested activations.
            self._session = cpu_session(exposed.SerializeToString(), "ORT_DISABLE_ALL", threads=usable_cpus())
        except Exception as error:  # its errors share no base class
            raise ImfDeployError(
                f"ONNX Runtime cannot run {model.artifact.path}: {str(error).splitlines()[0]}",
                "Export it again",
            ) from error

    def batches(self, images: Split) -> Iterator[Activations]:
        """Yield the activations of a few images, by tensor; the next batch replaces them."""
        model = self._model
        size = (
            min(max(_PIXELS // math.prod(model.preprocess.shape[1:]), 1), _LARGEST_BATCH)
            if model.free_batch
            else 1
        )
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


SCHEMA = 2
_PARTS = {
    "model": "another model",
    "images": "other images",
    "preprocess": "other preprocessing",
    "method": "another method",
}


@dataclass(frozen=True)
class CacheKey:
    """The key of stored ranges.

    Attributes:
        model: SHA-256 of the float ONNX file and of its weights in other files.
        images: SHA-256 of the calibration images.
        preprocess: Fingerprint of the preprocessing: mean and deviation affect every range.
        method: The method that chose the ranges, with its parameters.
    """

    model: str
    images: str
    preprocess: str
    method: str

    def path(self, folder: Path) -> Path:
        """Return the path of ranges with this key in a folder of caches."""
        return folder / f"ranges-{fingerprint(asdict(self))[:16]}.json"


def cached_ranges(path: Path, key: CacheKey, measure: Callable[[], Ranges]) -> Ranges:
    """Return the ranges at ``path``, or measure and store them.

    Args:
        path: The cache file.
        key: The key that the ranges must have.
        measure: Called if the file does not exist.

    Raises:
        UsageError: the file belongs to another model, other images, other preprocessing or another method.
        ImfDeployError: the file is damaged, or cannot be written.
    """
    if path.is_file():
        return _read(path, key)
    ranges = measure()
    content = {"schema": SCHEMA, **asdict(key), "ranges": {name: list(ends) for name, ends in ranges.items()}}
    write_json(path, content)
    return ranges


def _read(path: Path, key: CacheKey) -> Ranges:
    content = read_json(path)
    if content.get("schema") != SCHEMA:
        raise ImfDeployError(f"{path} is not a calibration cache of this version", "Delete it")
    for name, called in _PARTS.items():
        if content.get(name) != getattr(key, name):
            raise UsageError(
                f"the calibration cache {path} belongs to {called}", "Use another `cache`, or delete it"
            )
    try:
        ranges = {str(name): (float(low), float(high)) for name, (low, high) in content["ranges"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ImfDeployError(f"the calibration cache {path} is damaged", "Delete it") from error
    if not all(low <= 0 <= high for low, high in ranges.values()):
        raise ImfDeployError(f"the calibration cache {path} is damaged", "Delete it")
    return ranges
