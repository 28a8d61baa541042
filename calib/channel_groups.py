"""Find tensors whose channels can be scaled alike, because what writes and reads them can make up for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, numpy_helper

from imf_deploy.calib.layers import LAYER_TYPES
from imf_deploy.portability.products import attribute

# f(a x) = a f(x) for each channel and every a > 0, and channels stay what they are. A Clip from 0 is one of
# them for channels that do not reach its end.
_HOMOGENEOUS = (
    "Relu", "Clip", "LeakyRelu", "Add", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean",
    "Flatten", "Reshape", "Squeeze",
)  # fmt: skip
_FLATTENING = ("ReduceMean", "Flatten", "Reshape", "Squeeze")


@dataclass
class Group:
    """Tensors that have to be scaled alike, the nodes that write them, and the layers that read them.

    Attributes:
        writers: Nodes whose outputs are scaled.
        readers: Layers whose weights make up for it.
        tensors: Names of those tensors that are rounded: all but the inputs of ReLU and Clip.
        fixed: Whether they cannot be scaled.
        ceiling: Where a Clip ends. Channels below it may be enlarged up to it, and none may shrink.
    """

    writers: list[NodeProto] = field(default_factory=list)
    readers: list[NodeProto] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)
    fixed: bool = False
    ceiling: float = math.inf


class Constants:
    """Constants of a model, of which each node gets its own when it changes them."""

    def __init__(self, proto: ModelProto) -> None:
        self._proto = proto
        self._values = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
        self._changed: dict[str, npt.NDArray[np.float32]] = {}

    def get(self, node: NodeProto, place: int) -> npt.NDArray[np.float32] | None:
        """Return an input of a node if it is constant."""
        name = node.input[place] if len(node.input) > place else ""
        return self._changed.get(name, self._values.get(name))

    def set(self, node: NodeProto, place: int, value: npt.NDArray[np.float64]) -> None:
        """Replace a constant input of one node."""
        name = node.input[place]
        if name not in self._changed:
            node.input[place] = name = f"{name}/{node.name}"
        self._changed[name] = value.astype(np.float32)

    def write(self) -> None:
        """Put the changed constants into the model, and remove those that nothing reads."""
        graph = self._proto.graph
        read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in self._changed.items())


def find_groups(proto: ModelProto, weights: Constants, given: str) -> list[Group]:
    """Return the groups that can be scaled: with writers and readers of the same number of channels."""
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.value_info, *proto.graph.output)
    }
    passing = [node.name for node in proto.graph.node if _passes(node, shapes, weights)]
    activated = {name for node in proto.graph.node if node.op_type in ("Relu", "Clip") for name in node.input}
    group = _Joined()
    for node in proto.graph.node:
        if node.name in passing:
            for name in _activations(node, weights):
                group.join(name, node.output[0])
    for node in proto.graph.node:
        if node.name in passing:
            group(node.output[0]).ceiling = min(group(node.output[0]).ceiling, _ceiling(node, weights))
        for name in node.output:
            if name not in activated:
                group(name).tensors.append(name)
            if node.name in passing:
                continue
            group(name).writers.append(node)
            group(name).fixed |= not _is_writer(node, weights)
        for place, name in enumerate(node.input):
            if node.name in passing or not name or weights.get(node, place) is not None:
                continue
            group(name).readers.append(node)
            group(name).fixed |= place > 0 or not _is_layer(node, weights)
    for name in (given, *(value.name for value in proto.graph.output)):
        group(name).fixed = True
    return [each for each in group.all() if not each.fixed and _fits(each, weights)]


def _fits(group: Group, weights: Constants) -> bool:
    channels = {count_outputs(node, weights) for node in group.writers}
    channels |= {count_inputs(node, weights) for node in group.readers}
    return len(channels) == 1 and bool(group.writers and group.readers)


class _Joined:
    """Groups of tensors that are joined one by one."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}
        self._groups: dict[str, Group] = {}

    def __call__(self, name: str) -> Group:
        """Return the group of a tensor, after all have been joined."""
        return self._groups.setdefault(self._root(name), Group())

    def join(self, one: str, other: str) -> None:
        """Let two tensors have one group."""
        first, second = self._root(one), self._root(other)
        if first != second:
            self._above[first] = second

    def all(self) -> list[Group]:
        """Return all groups."""
        return list(self._groups.values())

    def _root(self, name: str) -> str:
        while name in self._above:
            name = self._above[name]
        return name


def _activations(node: NodeProto, weights: Constants) -> Iterator[str]:
    return (name for place, name in enumerate(node.input) if name and weights.get(node, place) is None)


def _passes(node: NodeProto, shapes: Mapping[str, list[int]], weights: Constants) -> bool:
    """Return whether a factor for each channel passes an operator."""
    if node.op_type not in _HOMOGENEOUS:
        return False
    inputs = list(_activations(node, weights))
    before, after = shapes.get(inputs[0], []) if inputs else [], shapes.get(node.output[0], [])
    if node.op_type == "Clip":
        low = weights.get(node, 1)
        return low is not None and float(low) == 0 < _ceiling(node, weights)
    if node.op_type == "Add":
        return len(inputs) == 2 and shapes.get(inputs[1]) == before
    if node.op_type in _FLATTENING:
        # Only spatial sizes may go: [N, C, H, W] to [N, C, 1, 1] or [N, C].
        spatial = node.op_type == "ReduceMean" or before[2:] == [1] * len(before[2:])
        return spatial and len(before) == 4 and after[1:2] == before[1:2] and set(after[2:]) <= {1}
    return True


def _ceiling(node: NodeProto, weights: Constants) -> float:
    """Return the upper end of a Clip; infinity for other operators."""
    end = weights.get(node, 2) if node.op_type == "Clip" else None
    return math.inf if end is None else float(end)


def _is_layer(node: NodeProto, weights: Constants) -> bool:
    own = weights.get(node, 1)
    if own is None or node.op_type not in LAYER_TYPES or node.op_type == "ConvTranspose":
        return False
    return own.ndim >= 3 if node.op_type == "Conv" else own.ndim == 2 and not attribute(node, "transA", 0)


def _is_writer(node: NodeProto, weights: Constants) -> bool:
    if node.op_type == "LayerNormalization":
        scale = weights.get(node, 1)
        return scale is not None and scale.ndim == 1 and len(node.output) == 1 and _own_bias(node, weights)
    return _is_layer(node, weights) and _own_bias(node, weights)


def _own_bias(node: NodeProto, weights: Constants) -> bool:
    """Return whether a node has no bias, or a constant one for each output."""
    if len(node.input) < 3 or not node.input[2]:
        return True
    bias = weights.get(node, 2)
    return bias is not None and bias.size == count_outputs(node, weights)


def by_rows(node: NodeProto) -> bool:
    """Return whether the first axis of the weights is that of the outputs."""
    return node.op_type == "Conv" or (node.op_type == "Gemm" and bool(attribute(node, "transB", 0)))


def count_outputs(node: NodeProto, weights: Constants) -> int:
    """Return the number of channels that a layer or a LayerNormalization writes."""
    own = weights.get(node, 1)
    return 0 if own is None else own.shape[0 if own.ndim == 1 or by_rows(node) else 1]


def count_inputs(node: NodeProto, weights: Constants) -> int:
    """Return the number of channels that a layer reads."""
    own = weights.get(node, 1)
    if own is None:
        return 0
    if node.op_type == "Conv":
        return int(own.shape[1]) * int(attribute(node, "group", 1))
    return int(own.shape[1 if by_rows(node) else 0])
