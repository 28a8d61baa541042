"""Operators that multiply matrices of bytes, and the order in which their kernels read the weights."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, helper

from imf_deploy.portability.pairs import conv_matrix

EMULATED = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat")
"""Operators whose saturating sums :mod:`imf_deploy.portability.kernels` computes."""
UNKNOWN = ("QAttention", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulBnb4", "MatMulNBits")
"""Operators of ONNX Runtime that multiply quantised weights in ways that are not emulated."""

_MOVING = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Identity")
_CONVOLUTIONS = ("Conv", "QLinearConv")
_GEMMS = ("Gemm", "QGemm")
_MATMULS = ("MatMul", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat")


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """Return an attribute of a node, or its default if it is absent."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def graphs_of(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs inside a node, of branches and loops, at any depth."""
    for item in node.attribute:
        for graph in (*item.graphs, *([item.g] if item.HasField("g") else [])):
            yield graph
            yield from inner_graphs(graph)


def inner_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield the graphs inside the nodes of a graph, at any depth."""
    for node in graph.node:
        yield from graphs_of(node)


def weight_matrix(node: NodeProto, weights: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Return the weights of an operator as ``[O, K]``, with ``K`` in the order of its kernels.

    The neighbours ``2 j`` and ``2 j + 1`` of ``K`` are a pair. In a stack of matrices, each contributes its
    rows.

    Args:
        node: A ``Conv``, ``Gemm`` or ``MatMul``, or one of their quantised forms.
        weights: Its second operand, of any type.

    Returns:
        ``None`` for operators without pairs: depthwise convolutions, which have separate kernels, and
        operators that compute in float.
    """
    if node.op_type in _CONVOLUTIONS:
        depthwise = weights.shape[1] == 1 and len(weights) == attribute(node, "group", 1)
        return None if depthwise else conv_matrix(weights)
    if _is_transposed(node):
        return weights
    if node.op_type in _MATMULS and weights.ndim == 1:
        return weights[None]
    if node.op_type in (*_GEMMS, *_MATMULS):
        return np.swapaxes(weights, -1, -2).reshape(-1, weights.shape[-2])
    return None


def from_matrix(node: NodeProto, matrix: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return ``[O, K]`` of :func:`weight_matrix` as the operand of the given shape that it was made from."""
    if node.op_type in _CONVOLUTIONS:
        return np.ascontiguousarray(np.moveaxis(matrix.reshape(shape[0], *shape[2:], shape[1]), -1, 1))
    if _is_transposed(node) or len(shape) == 1:
        return matrix.reshape(shape)
    rows = matrix.reshape(*shape[:-2], shape[-1], shape[-2])
    return np.ascontiguousarray(np.swapaxes(rows, -1, -2))


def output_axis(node: NodeProto, weights: npt.NDArray[Any]) -> int | None:
    """Return the axis of the output channels; ``None`` for stacks of matrices and vectors, with one scale."""
    return 0 if node.op_type in _CONVOLUTIONS or _is_transposed(node) else 1 if weights.ndim == 2 else None


def _is_transposed(node: NodeProto) -> bool:
    return node.op_type in _GEMMS and bool(attribute(node, "transB", 0))


def weights_index(node: NodeProto) -> int:
    """Return the index of the input of an emulated operator that holds its weights."""
    return 1 if node.op_type.startswith("MatMulInteger") else 3


def zero_index(node: NodeProto) -> int:
    """Return the index of the input of an emulated operator that holds the zero point of its activations."""
    return 4 if node.op_type == "MatMulIntegerToFloat" else 2


def is_uint8(
    name: str, producers: Mapping[str, NodeProto], constants: Mapping[str, npt.NDArray[Any]]
) -> bool:
    """Return whether a tensor is known to be uint8, from the zero point of its producer.

    Args:
        name: Name of the tensor.
        producers: For each tensor, the node that computes it.
        constants: Constants of the graph by name.
    """
    while (node := producers.get(name)) is not None and node.op_type in _MOVING:
        name = node.input[0]
    zero = constants.get(node.input[-1]) if node is not None else None
    return zero is not None and zero.dtype == np.uint8
