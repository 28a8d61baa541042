"""What a graph says of its sums before anything runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imf_deploy.portability.pairs import can_saturate
from imf_deploy.portability.products import (
    EMULATED,
    PORTABLE,
    SATURATING,
    UNKNOWN,
    is_uint8,
    weight_matrix,
    weights_index,
)

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

_FLOAT_FORMS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Sums:
    """The integer layers of a graph.

    Attributes:
        layers: How many have int8 weights, as far as they can be read.
        saturating: How many of them some input makes saturate on processors without VNNI.
        unread: How many have weights that are not in the file.
        unknown: Operators that multiply quantised weights in ways that are not emulated.
    """

    layers: int
    saturating: int
    unread: int
    unknown: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What ``inspect`` says of the file; without a full stop."""
        if self.saturating:
            return (
                f"sums of {self.saturating} of {self.layers} layers can saturate on {SATURATING}; "
                "imf-deploy verify measures what that changes"
            )
        if self.unknown:
            return f"not known for {SATURATING}: {', '.join(self.unknown)} cannot be emulated"
        if self.unread:
            return f"not known for {SATURATING}: the weights of {self.unread} layer(s) cannot be read"
        return PORTABLE


def integer_sums(model: ModelProto) -> Sums:
    """Return which layers of a quantised graph can saturate, read from its weights.

    Args:
        model: With Q/DQ or with integer operators; weights in other files count as unread.
    """
    from onnx import numpy_helper

    tensors: dict[str, TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            for value in (item.t for item in node.attribute if item.name == "value"):
                tensors[node.output[0]] = value
    dequantised = {n.output[0]: n for n in model.graph.node if n.op_type == "DequantizeLinear"}
    producers = {name: node for node in model.graph.node for name in node.output}
    points = {n.input[2] for n in model.graph.node if n.op_type == "QuantizeLinear" and len(n.input) > 2}
    zeros = {name: numpy_helper.to_array(tensors[name]) for name in points & tensors.keys()}
    layers = saturating = unread = 0
    unknown: set[str] = set()
    for node in model.graph.node:
        if node.op_type in UNKNOWN:
            unknown.add(node.op_type)
            continue
        if node.op_type in EMULATED:
            name = node.input[weights_index(node)]
        elif node.op_type in _FLOAT_FORMS and set(node.input[:2]) <= dequantised.keys():
            name = dequantised[node.input[1]].input[0]
        else:
            continue
        tensor = tensors.get(name)
        if tensor is None and (node.op_type in _FLOAT_FORMS or is_uint8(name, producers, zeros)):
            continue  # the product of two activations, which ONNX Runtime takes as uint8
        if tensor is None or tensor.data_location == tensor.EXTERNAL:
            unread += 1
            continue
        weights = numpy_helper.to_array(tensor)
        if weights.dtype != np.int8 or weights.ndim < 2:
            continue
        layers += 1
        matrix = weight_matrix(node, weights)
        saturating += matrix is not None and bool(can_saturate(matrix).any())
    return Sums(layers, saturating, unread, tuple(sorted(unknown)))
