"""Weights on which no processor saturates: scales and rounding under the bound on pairs."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, numpy_helper

from imf_deploy.calib.layers import LAYER_TYPES
from imf_deploy.portability.pairs import bounded_scales, round_within_bound
from imf_deploy.portability.products import from_matrix, output_axis, weight_matrix

Scales = Mapping[str, npt.NDArray[np.float32]]
"""For each weight, the scale of each of its output channels."""


def own_weights(model: ModelProto) -> None:
    """Give every layer its own copy of its weights, in place, because the order of pairs differs by layer."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    taken: set[str] = set()
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name not in tensors:
                continue
            if name in taken and node.op_type in LAYER_TYPES and index == 1:
                copy = model.graph.initializer.add()
                copy.CopyFrom(tensors[name])
                copy.name = node.input[index] = f"{name}/{node.name}"
            taken.add(name)


def find_scales(model: ModelProto) -> Scales:
    """Return the smallest scales at which no pair of weights can saturate, for each layer that has pairs.

    Args:
        model: The model in float32, after :func:`own_weights`.
    """
    scales_by_name = {}
    for node, weights, matrix in _layers(model):
        scales = bounded_scales(matrix.astype(np.float64))
        if output_axis(node, weights) is None:
            scales = scales.max(keepdims=True)
        scales_by_name[node.input[1]] = scales.astype(np.float32)
    return scales_by_name


def as_overrides(model: ModelProto, scales: Scales) -> dict[str, list[dict[str, Any]]]:
    """Return scales of some or all weights as the ``TensorQuantOverrides`` of onnxruntime.quantization."""
    overrides = {}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in LAYER_TYPES or node.input[1] not in scales:
            continue
        weights = numpy_helper.to_array(tensors[node.input[1]])
        rows: list[dict[str, Any]] = [{"scale": s, "zero_point": 0} for s in scales[node.input[1]]]
        if (axis := output_axis(node, weights)) is not None:
            rows[0]["axis"] = axis
        overrides[node.input[1]] = rows
    return overrides


def bound_weights(quantised: ModelProto, model: ModelProto) -> None:
    """Round the weights of an INT8 model again so that no pair of them can saturate, in place.

    At the scales of :func:`find_scales` this changes nothing. But the quantiser raises a scale if a bias
    would otherwise not fit into 32 bits, and rounding at another scale may exceed the bound.

    Args:
        quantised: The result of onnxruntime.quantization for ``model``.
        model: The float32 model.
    """
    tensors = {tensor.name: tensor for tensor in quantised.graph.initializer}
    for node, weights, matrix in _layers(model):
        name = f"{node.input[1]}_quantized"
        if name not in tensors:
            continue  # the layer stays in float
        scales = numpy_helper.to_array(tensors[f"{node.input[1]}_scale"]).astype(np.float64).reshape(-1)
        rounded = round_within_bound(matrix.astype(np.float64), np.broadcast_to(scales, len(matrix)))
        tensors[name].CopyFrom(numpy_helper.from_array(from_matrix(node, rounded, weights.shape), name))


Layer = tuple["NodeProto", npt.NDArray[np.float32], npt.NDArray[np.float32]]


def _layers(model: ModelProto) -> Iterator[Layer]:
    """Yield each layer with pairs: its node, its weights, and the same as ``[O, K]``."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in LAYER_TYPES and node.input[1] in tensors:
            weights = numpy_helper.to_array(tensors[node.input[1]])
            matrix = weight_matrix(node, weights)
            if matrix is not None:
                yield node, weights, matrix
