"""Which sums of a graph can saturate, derived without running it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from imf_deploy.portability.pairs import can_saturate
from imf_deploy.portability.products import (
    EMULATED,
    UNKNOWN,
    attribute,
    inner_graphs,
    is_uint8,
    weight_matrix,
    weights_index,
    zero_index,
)
from imf_deploy.records.checks import PORTABLE, SATURATING

_FLOAT_FORMS = ("Conv", "Gemm", "MatMul")
_QUANTISING = ("QuantizeLinear", "DynamicQuantizeLinear")
_PASSING = ("DequantizeLinear", "Identity", "Transpose")
_RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Concat", "Cast", "Mul")


@dataclass(frozen=True)
class Sums:
    """The integer layers of a graph.

    Attributes:
        layers: Number of layers with int8 weights, as far as they can be read.
        saturating: Number of these that some input makes saturate on processors without VNNI.
        unread: Number of layers with weights that are computed, in a branch or a function, or in another
            file.
        unknown: Operators that multiply quantised weights in ways that are not emulated.
    """

    layers: int
    saturating: int
    unread: int
    unknown: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The statement of ``inspect``, without a full stop."""
        if self.saturating:
            return (
                f"sums of {self.saturating} of {self.layers} layers can saturate on {SATURATING}; "
                "imf-deploy verify measures what that changes"
            )
        if self.unknown:
            return f"unknown for {SATURATING}: {', '.join(self.unknown)} cannot be emulated"
        if self.unread:
            return f"unknown for {SATURATING}: the weights of {self.unread} layer(s) cannot be read"
        return PORTABLE


def integer_sums(model: ModelProto) -> Sums:
    """Return which layers of a quantised graph can saturate, derived from its weights.

    Every int8 constant is followed to the operators that read it, so that none is overlooked. Constants that
    cannot be followed count as unread.

    Args:
        model: The graph, with Q/DQ or with integer operators.
    """
    graph = _Graph(model)
    sums = [graph.judge(node, weights) for name in graph.int8 for node, weights in graph.readers_of(name)]
    sums += [None for node in graph.nodes if graph.multiplies_unknown(node)]
    inner = [node for node in graph.inner if node.op_type in (*EMULATED, *_FLOAT_FORMS)]
    if graph.quantises:
        sums += [None] * len(inner)
    known = [each for each in sums if each is not None]
    unknown = {node.op_type for node in (*graph.nodes, *graph.inner) if node.op_type in UNKNOWN}
    return Sums(len(known), sum(known), len(sums) - len(known), tuple(sorted(unknown)))


class _Graph:
    """The nodes and constants of a model, and the readers of each tensor."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.inner = [node for part in inner_graphs(model.graph) for node in part.node]
        self.inner += [node for function in model.functions for node in function.node]
        self.constants: dict[str, TensorProto] = {t.name: t for t in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                for value in (item.t for item in node.attribute if item.name == "value"):
                    self.constants[node.output[0]] = value
        self.int8 = [n for n, t in self.constants.items() if t.data_type == t.INT8 and _count(t) > 1]
        self.producers = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)
        # Without it, only weights are quantised, and every layer computes in float.
        self.quantises = any(n.op_type in (*_QUANTISING, *EMULATED) for n in (*self.nodes, *self.inner))
        self._zeros = {
            name: self.values(name)
            for node in self.nodes
            for name in node.input[2:]
            if name in self.constants and self.constants[name].data_type in (2, 3)
        }

    def values(self, name: str) -> npt.NDArray[Any] | None:
        """Return a constant; ``None`` if it is stored in another file."""
        tensor = self.constants[name]
        return None if tensor.data_location == tensor.EXTERNAL else numpy_helper.to_array(tensor)

    def readers_of(self, name: str) -> Iterator[tuple[NodeProto, npt.NDArray[Any] | None]]:
        """Yield the layers that a constant reaches, with the weights that arrive there if they are known."""
        pending = [(name, self.values(name))]
        while pending:
            name, values = pending.pop()
            for node in self.readers.get(name, []):
                if node.op_type in _PASSING and node.input[0] == name:
                    if node.op_type == "Transpose" and values is not None:
                        values = np.transpose(values, attribute(node, "perm", None))
                    pending.append((node.output[0], values))
                elif node.op_type in _RESHAPING and node.input[0] == name:
                    pending.append((node.output[0], None))
                elif self._is_weight(node, name):
                    yield node, values

    def _is_weight(self, node: NodeProto, name: str) -> bool:
        if node.op_type in EMULATED:
            return name in (node.input[0], node.input[weights_index(node)])
        return node.op_type in _FLOAT_FORMS and self.quantises and name in node.input[:2]

    def judge(self, node: NodeProto, weights: npt.NDArray[Any] | None) -> bool | None:
        """Return whether a layer can saturate; ``None`` if its weights cannot be read."""
        zero = self._zero(node) if node.op_type in EMULATED else None
        if zero is not None and zero.dtype == np.int8:
            return False  # products of two int8 are added in 32 bits
        if weights is None:
            return None
        matrix = weight_matrix(node, weights)
        return matrix is not None and bool(can_saturate(matrix).any())

    def multiplies_unknown(self, node: NodeProto) -> bool:
        """Return whether a layer multiplies by a computed tensor that may be int8."""
        if node.op_type not in EMULATED:
            return False
        name = node.input[weights_index(node)]
        zero = self._zero(node)
        if name in self.constants or (zero is not None and zero.dtype == np.int8):
            return False
        zeros = {key: value for key, value in self._zeros.items() if value is not None}
        return not is_uint8(name, self.producers, zeros)

    def _zero(self, node: NodeProto) -> npt.NDArray[Any] | None:
        index = zero_index(node)
        return self._zeros.get(node.input[index]) if len(node.input) > index else None


def _count(tensor: TensorProto) -> int:
    return int(np.prod([int(size) for size in tensor.dims])) if tensor.dims else 1
