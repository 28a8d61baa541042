"""Measure the range of every activation on images that stream through the float model."""

from collections.abc import Callable

import numpy as np

from imf_deploy.calib.model import FloatModel
from imf_deploy.calib.observe import Observer
from imf_deploy.calib.threshold import (
    PERCENTILE,
    Histogram,
    Range,
    entropy_range,
    mse_range,
    percentile_range,
)
from imf_deploy.data import Split
from imf_deploy.errors import ImfDeployError
from imf_deploy.progress import track
from imf_deploy.settings.quantize import Method

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
