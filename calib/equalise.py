"""Scale channels so that each uses as much of its tensor's range as the others, with the same answers.

Activations have one scale for all channels. What a layer or a LayerNormalization writes can be divided by a
factor for each channel, and the weights that read it multiplied by the same. Sources: Nagel et al. 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction"; Xiao et al. 2023, "SmoothQuant:
Accurate and Efficient Post-Training Quantization for Large Language Models", for factors from activations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, numpy_helper

from imf_deploy.calib.layers import LAYER_TYPES
from imf_deploy.calib.model import FloatModel
from imf_deploy.calib.ranges import Observer
from imf_deploy.data import Split
from imf_deploy.portability.products import attribute
from imf_deploy.progress import track

Factors = npt.NDArray[np.float64]
Peaks = Mapping[str, Factors]
"""For each tensor, the largest magnitude of each channel."""

# f(a x) = a f(x) for each channel and every a > 0, and channels stay what they are.
_HOMOGENEOUS = ("Relu", "LeakyRelu", "Add", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean",
                "Flatten", "Reshape", "Squeeze")  # fmt: skip
_FLATTENING = ("ReduceMean", "Flatten", "Reshape", "Squeeze")
_LARGEST_FACTOR = 64.0


@dataclass
class _Group:
    """Tensors that have to be scaled alike, the nodes that write them, and the layers that read them."""

    writers: list[NodeProto] = field(default_factory=list)
    readers: list[NodeProto] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)
    fixed: bool = False


def equalise(model: FloatModel, images: Split) -> FloatModel | None:
    """Return a model with equalised channels and the same answers; ``None`` if none can be scaled.

    Args:
        model: The float model.
        images: Images on which the magnitude of each channel is measured.
    """
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    weights = _Weights(proto)
    groups = [group for group in _groups(proto, weights, model.input) if not group.fixed]
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


class _Weights:
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


def _groups(proto: ModelProto, weights: _Weights, given: str) -> list[_Group]:
    """Return the groups that contain a writer and a reader with a matching number of channels."""
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.value_info, *proto.graph.output)
    }
    passing = [node.name for node in proto.graph.node if _passes(node, shapes, weights)]
    group = _Joined()
    for node in proto.graph.node:
        if node.name in passing:
            for name in _activations(node, weights):
                group.join(name, node.output[0])
    for node in proto.graph.node:
        for name in node.output:
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
    for each in group.all():
        if each.fixed:
            continue
        channels = {_outputs(node, weights) for node in each.writers}
        channels |= {_inputs(node, weights) for node in each.readers}
        each.fixed = len(channels) != 1 or not each.writers or not each.readers
    return group.all()


class _Joined:
    """Groups of tensors that are joined one by one."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}
        self._groups: dict[str, _Group] = {}

    def __call__(self, name: str) -> _Group:
        """Return the group of a tensor, after all have been joined."""
        return self._groups.setdefault(self._root(name), _Group())

    def join(self, one: str, other: str) -> None:
        """Let two tensors have one group."""
        first, second = self._root(one), self._root(other)
        if first != second:
            self._above[first] = second

    def all(self) -> list[_Group]:
        """Return all groups."""
        return list(self._groups.values())

    def _root(self, name: str) -> str:
        while name in self._above:
            name = self._above[name]
        return name


def _activations(node: NodeProto, weights: _Weights) -> Iterator[str]:
    return (name for place, name in enumerate(node.input) if name and weights.get(node, place) is None)


def _passes(node: NodeProto, shapes: Mapping[str, list[int]], weights: _Weights) -> bool:
    """Return whether a factor for each channel passes an operator."""
    if node.op_type not in _HOMOGENEOUS:
        return False
    inputs = list(_activations(node, weights))
    before, after = shapes.get(inputs[0], []) if inputs else [], shapes.get(node.output[0], [])
    if node.op_type == "Add":
        return len(inputs) == 2 and shapes.get(inputs[1]) == before
    if node.op_type in _FLATTENING:
        # Only spatial sizes may go: [N, C, H, W] to [N, C, 1, 1] or [N, C].
        spatial = node.op_type == "ReduceMean" or before[2:] == [1] * len(before[2:])
        return spatial and len(before) == 4 and after[1:2] == before[1:2] and set(after[2:]) <= {1}
    return True


def _is_layer(node: NodeProto, weights: _Weights) -> bool:
    own = weights.get(node, 1)
    if own is None or node.op_type not in LAYER_TYPES or node.op_type == "ConvTranspose":
        return False
    return own.ndim >= 3 if node.op_type == "Conv" else own.ndim == 2 and not attribute(node, "transA", 0)


def _is_writer(node: NodeProto, weights: _Weights) -> bool:
    if node.op_type == "LayerNormalization":
        scale = weights.get(node, 1)
        return scale is not None and scale.ndim == 1 and len(node.output) == 1 and _own_bias(node, weights)
    return _is_layer(node, weights) and _own_bias(node, weights)


def _own_bias(node: NodeProto, weights: _Weights) -> bool:
    """Return whether a node has no bias, or a constant one for each output."""
    if len(node.input) < 3 or not node.input[2]:
        return True
    bias = weights.get(node, 2)
    return bias is not None and bias.size == _outputs(node, weights)


def _by_rows(node: NodeProto) -> bool:
    """Return whether the first axis of the weights is that of the outputs."""
    return node.op_type == "Conv" or (node.op_type == "Gemm" and bool(attribute(node, "transB", 0)))


def _outputs(node: NodeProto, weights: _Weights) -> int:
    own = weights.get(node, 1)
    return 0 if own is None else own.shape[0 if own.ndim == 1 or _by_rows(node) else 1]


def _inputs(node: NodeProto, weights: _Weights) -> int:
    own = weights.get(node, 1)
    if own is None:
        return 0
    if node.op_type == "Conv":
        return int(own.shape[1]) * int(attribute(node, "group", 1))
    return int(own.shape[1 if _by_rows(node) else 0])


def _scale_outputs(node: NodeProto, weights: _Weights, factors: Factors) -> None:
    for place in (1, 2):
        own = weights.get(node, place)
        if own is None:
            continue
        rows = own.ndim > 1 and place == 1 and _by_rows(node)
        weights.set(node, place, own * (factors.reshape(-1, *[1] * (own.ndim - 1)) if rows else factors))


def _scale_inputs(node: NodeProto, weights: _Weights, factors: Factors) -> None:
    own = weights.get(node, 1)
    if own is not None:
        weights.set(node, 1, own * _of_inputs(node, own, factors))


def _of_inputs(node: NodeProto, own: npt.NDArray[np.float32], factors: Factors) -> Factors:
    """Return the factor of the input that each weight multiplies, in a shape that fits the weights."""
    if node.op_type != "Conv":
        return factors[None] if _by_rows(node) else factors[:, None]
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


def _factors(group: _Group, weights: _Weights, peaks: Peaks) -> Factors:
    """Return the factor of each channel: the mean, in octaves, of what activations and weights ask for.

    Depthwise weights have a scale for each channel, so only the activations decide before them.
    """
    channels = _outputs(group.writers[0], weights)
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
            largest = np.maximum(largest, size.max(0 if _by_rows(node) else 1))
    alive = (wanted > 0) & ((largest > 0) | ~largest.any())
    if not alive.any():
        return np.ones(channels)
    factors = np.ones(channels)
    factors[alive] = np.sqrt(wanted[alive] / largest[alive]) if largest.any() else wanted[alive]
    factors[alive] /= np.exp(np.log(factors[alive]).mean())
    return np.clip(factors, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR)
