"""Round weights so that the outputs of layers change least, instead of each weight by itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, numpy_helper

from imf_deploy.calib.bound import Scales
from imf_deploy.calib.layer_inputs import Float, LayerInputs, Weights
from imf_deploy.portability.pairs import LARGEST_SUM

_LEVELS = 127
_DAMPING = 0.01
_BLOCK = 32


@dataclass(frozen=True, eq=False)
class RoundedLayer:
    """A layer after rounding.

    Attributes:
        weights: Its weights, each an integer times the scale of its output channel.
        scales: These scales, ``[O]``.
        shift: What is added to each output's bias, ``[O]``: the mean that rounding took away.
    """

    weights: Weights
    scales: npt.NDArray[np.float32]
    shift: npt.NDArray[np.float32]


Rounding = Mapping[str, RoundedLayer]
"""Rounded layers by the name of their node."""


def round_layers(inputs: Sequence[LayerInputs], bounded: Scales) -> Rounding:
    """Round the weights of layers by the covariance of their inputs.

    The weights of an output are rounded one after the other, and the error of each is made up for by those
    that are not yet rounded. Source: Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for
    Generative Pre-trained Transformers"; ours is the bound on pairs, which limits the second weight of each.
    The mean that remains is put into the bias. Source: Nagel et al. 2019, "Data-Free Quantization Through
    Weight Equalization and Bias Correction".

    Args:
        inputs: Inputs of the layers.
        bounded: Scales of weights whose pairs must not saturate; others use all 8 bits.
    """
    rounded = {}
    for layer in inputs:
        matrix = layer.matrix()
        groups, outputs, _ = matrix.shape
        scales = bounded.get(layer.node.input[1])
        pairs = scales is not None
        if scales is None:
            peak = np.abs(matrix).max(2, initial=0) / _LEVELS
            scales = np.where(peak > 0, peak, 1).reshape(-1).astype(np.float32)
        steps = np.broadcast_to(scales, groups * outputs).reshape(groups, outputs).astype(np.float64)
        integers = _rounded(matrix, layer.covariance, steps, pairs)
        error = matrix - integers * steps[:, :, None]
        shift = np.einsum("gok,gk->go", error, layer.mean).reshape(-1)
        rounded[layer.node.name] = RoundedLayer(
            layer.from_matrix(integers * steps[:, :, None]), scales, shift.astype(np.float32)
        )
    return rounded


def _rounded(matrix: Float, covariance: Float | None, steps: Float, pairs: bool) -> Float:
    """Return weights ``[groups, O, K]`` as integers from -127 to 127."""
    depth = matrix.shape[2]
    # Without a covariance, no weight makes up for another.
    spread = np.eye(depth)[None] if covariance is None else covariance
    diagonal = np.diagonal(spread, axis1=1, axis2=2).mean(1)
    damped = spread + np.eye(depth) * (_DAMPING * diagonal + 1e-12)[:, None, None]
    # The upper Cholesky factor of the inverse: row k states how later weights make up for weight k.
    try:
        factor = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    except np.linalg.LinAlgError:  # variances are too different for floats of 64 bits
        factor = np.broadcast_to(np.eye(depth), damped.shape)
    left, integers, errors = matrix.copy(), np.zeros_like(matrix), np.zeros_like(matrix)
    for place in range(depth):
        # Errors reach the weights of their block at once, and later ones at its end, which is faster.
        start, end = place - place % _BLOCK, min(place - place % _BLOCK + _BLOCK, depth)
        # The second weight of a pair has what the first one leaves.
        before = integers[:, :, place - 1] if pairs and place % 2 else np.zeros_like(steps)
        chosen = np.clip(
            np.rint(left[:, :, place] / steps),
            np.maximum(-_LEVELS, np.maximum(-before, 0) - LARGEST_SUM),
            np.minimum(_LEVELS, LARGEST_SUM - np.maximum(before, 0)),
        )
        integers[:, :, place] = chosen
        error = (left[:, :, place] - chosen * steps) / factor[:, place, place][:, None]
        errors[:, :, place] = error
        left[:, :, place + 1 : end] -= error[:, :, None] * factor[:, None, place, place + 1 : end]
        if place == end - 1:
            left[:, :, end:] -= errors[:, :, start:end] @ factor[:, start:end, end:]
    return integers


def apply_rounding(model: ModelProto, rounding: Rounding, names: Collection[str]) -> Scales:
    """Put rounded layers into a float model, in place; return the scale of each of their weights.

    Args:
        model: The model; each layer has its own weights.
        rounding: The rounded layers.
        names: Names of the nodes to replace.
    """
    graph, scales = model.graph, {}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        if node.name not in names or (layer := rounding.get(node.name)) is None:
            continue
        tensors[node.input[1]].CopyFrom(numpy_helper.from_array(layer.weights, node.input[1]))
        scales[node.input[1]] = layer.scales
        _shift(model, node, layer.shift, tensors.keys())
    return scales


def _shift(
    model: ModelProto, node: NodeProto, shift: npt.NDArray[np.float32], constants: Collection[str]
) -> None:
    """Add a vector to the bias of a layer: its third input, or the constant of the sum that follows."""
    if node.op_type == "MatMul":
        readers = [other for other in model.graph.node if node.output[0] in other.input]
        if len(readers) != 1 or readers[0].op_type != "Add":
            return
        node, place = readers[0], int(readers[0].input[0] == node.output[0])
    else:
        place = 2
    name = node.input[place] if len(node.input) > place else ""
    if name and name not in constants:
        return
    bias = next((numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name), None)
    if bias is None:
        bias = np.zeros_like(shift)
    if bias.size not in (1, shift.size):
        return
    shifted = (bias.reshape(-1) + shift).reshape(shift.shape if bias.size == 1 else bias.shape)
    tensor = numpy_helper.from_array(shifted.astype(np.float32), f"{node.name}/shifted")
    model.graph.initializer.append(tensor)
    if place < len(node.input):
        node.input[place] = tensor.name
    else:
        node.input.append(tensor.name)
