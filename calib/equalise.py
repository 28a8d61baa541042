"""Scale channels so that each uses as much of its tensor's range as the others, with the same answers.

Activations have one scale for all channels. What a layer or a LayerNormalization writes can be divided by a
factor for each channel, and the weights that read it multiplied by the same. Sources: Nagel et al. 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction"; Xiao et al. 2023, "SmoothQuant:
Accurate and Efficient Post-Training Quantization for Large Language Models", for factors from activations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto

from imf_deploy.calib.channel_groups import Constants, Group, by_rows, count_outputs, find_groups
from imf_deploy.calib.model import FloatModel
from imf_deploy.calib.ranges import Observer
from imf_deploy.data import Split
from imf_deploy.portability.products import attribute
from imf_deploy.progress import track

Factors = npt.NDArray[np.float64]
Peaks = Mapping[str, Factors]
"""For each tensor, the largest magnitude of each channel."""

_LARGEST_FACTOR = 64.0


def equalise(model: FloatModel, images: Split) -> FloatModel | None:
    """Return a model with equalised channels and the same answers; ``None`` if none can be scaled.

    Args:
        model: The float model.
        images: Images on which the magnitude of each channel is measured.
    """
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    weights = Constants(proto)
    groups = find_groups(proto, weights, model.input)
    if not groups:
        return None
    peaks = _measure(model, images, {name for group in groups for name in group.tensors})
    for group in groups:
        factors = _factors(group, weights, peaks)
        for node in group.writers:
            _scale_outputs(node, weights, 1 / factors)
        for node in group.readers:
            _scale_inputs(node, weights, factors)
    weights.write()
    return replace(model, proto=proto)


def _scale_outputs(node: NodeProto, weights: Constants, factors: Factors) -> None:
    for place in (1, 2):
        own = weights.get(node, place)
        if own is None:
            continue
        rows = own.ndim > 1 and place == 1 and by_rows(node)
        weights.set(node, place, own * (factors.reshape(-1, *[1] * (own.ndim - 1)) if rows else factors))


def _scale_inputs(node: NodeProto, weights: Constants, factors: Factors) -> None:
    own = weights.get(node, 1)
    if own is not None:
        weights.set(node, 1, own * _of_inputs(node, own, factors))


def _of_inputs(node: NodeProto, own: npt.NDArray[np.float32], factors: Factors) -> Factors:
    """Return the factor of the input that each weight multiplies, in a shape that fits the weights."""
    if node.op_type != "Conv":
        return factors[None] if by_rows(node) else factors[:, None]
    groups = attribute(node, "group", 1)
    by_group = np.repeat(factors.reshape(groups, -1), len(own) // groups, axis=0)
    return by_group.reshape(*own.shape[:2], *[1] * (own.ndim - 2))


def _measure(model: FloatModel, images: Split, names: set[str]) -> Peaks:
    """Return the largest magnitude of each channel of some tensors."""
    observer = Observer(model)
    peaks: dict[str, Factors] = {}
    with track("Measuring channels", len(images)) as advance:
        for activations in observer.batches(images):
            for name in names & activations.keys():
                values = np.abs(activations[name])
                # Channels are second in maps and last in tokens.
                moved = np.moveaxis(values, 1 if values.ndim == 4 else -1, -1)
                peak = moved.reshape(-1, moved.shape[-1]).max(0).astype(np.float64)
                peaks[name] = np.maximum(peaks.get(name, 0), peak)
            advance(len(activations[model.input]))
    return peaks


def _factors(group: Group, weights: Constants, peaks: Peaks) -> Factors:
    """Return the factor of each channel: the mean, in octaves, of what activations and weights ask for.

    Depthwise weights have a scale for each channel, so only the activations decide before them. Before the
    end of a Clip, channels are only enlarged, at most until the largest value on the images reaches it.
    """
    channels = count_outputs(group.writers[0], weights)
    known = [peaks[name] for name in group.tensors if len(peaks.get(name, ())) == channels]
    wanted = np.max(known, axis=0) if known else np.ones(channels)
    largest = np.zeros(channels)
    for node in group.readers:
        own = weights.get(node, 1)
        if own is None or (node.op_type == "Conv" and own.shape[1] == 1):
            continue
        size = np.abs(own)
        if node.op_type == "Conv":
            groups = attribute(node, "group", 1)
            split = size.reshape(groups, len(own) // groups, own.shape[1], -1)
            largest = np.maximum(largest, split.max((1, 3)).reshape(-1))
        else:
            largest = np.maximum(largest, size.max(0 if by_rows(node) else 1))
    alive = (wanted > 0) & ((largest > 0) | ~largest.any())
    if not alive.any():
        return np.ones(channels)
    factors = np.ones(channels)
    if math.isfinite(group.ceiling):
        used = np.minimum(wanted[alive] / group.ceiling, 1)
        factors[alive] = np.sqrt(used) if largest.any() else used
        return np.maximum(factors, 1 / _LARGEST_FACTOR)
    factors[alive] = np.sqrt(wanted[alive] / largest[alive]) if largest.any() else wanted[alive]
    factors[alive] /= np.exp(np.log(factors[alive]).mean())
    return np.clip(factors, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR)
