"""Write an exported graph in the operators, opset and IR version that old and simple runtimes load.

The answers stay the same. Measured by ``benchmarks/clients.py``, which makes the table in docs/onnx.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.onnx_file import default_opset, messages, tensor_shape

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSET = 17
"""The default: the newest opset with IR version 8, which ONNX Runtime 1.12 and newer load."""
TRACED_OPSET = 18
"""The oldest opset that PyTorch's exporter writes; if it is asked for an older one, it writes this."""

_SPATIAL = (2, 3)


def simplify(model: ModelProto) -> None:
    """Replace means over the whole image and reshapes to vectors by the operators made for them, in place.

    OpenCV 4.8 computes ``ReduceMean`` and ``Reshape`` silently wrongly, and their forms differ between
    opsets; ``GlobalAveragePool`` and ``Flatten`` are the same everywhere.

    Args:
        model: Model with the shapes of inner values, as exporters store them.
    """
    from onnx import helper

    graph, shapes, constants = model.graph, _shapes(model), _constants(model)
    nodes: list[NodeProto] = []
    for node in graph.node:
        source, result = node.input[0] if node.input else "", node.output[0]
        if node.op_type == "ReduceMean" and _over_image(node, shapes.get(source, []), constants):
            keeps = _attributes(node).get("keepdims", 1)
            pooled = result if keeps else f"{result}_pooled"
            nodes.append(helper.make_node("GlobalAveragePool", [source], [pooled], node.name))
            if not keeps:
                name = f"{node.name}_flatten" if node.name else ""
                nodes.append(helper.make_node("Flatten", [pooled], [result], name, axis=1))
        elif node.op_type == "Reshape" and _to_vectors(
            shapes.get(source, []), shapes.get(result, []), constants.get(node.input[1])
        ):
            nodes.append(helper.make_node("Flatten", [source], [result], node.name, axis=1))
        else:
            nodes.append(node)
    nodes = [_copy(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(model)


def split_gemm(model: ModelProto) -> None:
    """Write ``Gemm`` with constant weights as ``MatMul`` and ``Add``, in place.

    tract refuses ``Gemm`` in fp16; ONNX Runtime and TensorRT fuse the two operators again.
    """
    from onnx import helper, numpy_helper

    graph, constants = model.graph, _constants(model)
    readers = [name for node in graph.node for name in node.input]
    nodes: list[NodeProto] = []
    for node in graph.node:
        about = _attributes(node)
        plain = all(
            about.get(key, wanted) == wanted for key, wanted in (("alpha", 1), ("beta", 1), ("transA", 0))
        )
        if node.op_type != "Gemm" or not plain or len(node.input) != 3 or node.input[1] not in constants:
            nodes.append(_copy(node))
            continue
        weights = node.input[1]
        if about.get("transB", 0):
            if readers.count(weights) > 1:
                nodes.append(_copy(node))
                continue
            tensor = next(tensor for tensor in graph.initializer if tensor.name == weights)
            turned = np.ascontiguousarray(constants[weights].T)
            tensor.CopyFrom(numpy_helper.from_array(turned, weights))
        product = f"{node.output[0]}_product"
        nodes += [
            helper.make_node("MatMul", [node.input[0], weights], [product], node.name),
            helper.make_node("Add", [product, node.input[2]], list(node.output), f"{node.name}_bias"),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


def set_header(model: ModelProto) -> None:
    """Give a model the lowest IR version of its opsets, and remove the shapes of inner values, in place.

    Runtimes infer these shapes themselves; tract fails on stored ones if the batch is free.
    """
    from onnx import helper

    model.ir_version = helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    del model.graph.value_info[:]


def lower_opset(model: ModelProto, opset: int) -> None:
    """Write a model in an older opset, in place.

    Args:
        model: Model in :data:`TRACED_OPSET` or a newer opset; not changed if its opset is not newer.
        opset: The opset to write.

    Raises:
        ImfDeployError: an operator of the model does not exist in it, or has no equal form there.
    """
    from onnx import NodeProto, defs

    have, known = default_opset(model), _Known(_constants(model), _shapes(model))
    if have <= opset:
        return
    for node in [part for part in messages(model.graph) if isinstance(part, NodeProto)]:
        if node.domain not in ("", "ai.onnx"):
            continue
        try:
            before = defs.get_schema(node.op_type, opset).since_version
        except defs.SchemaError as error:
            raise _needs_newer(node.op_type, opset) from error
        if before != defs.get_schema(node.op_type, have).since_version and not _fits(node, known):
            raise _needs_newer(node.op_type, opset)
    _drop_unused(model)
    next(entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")).version = opset


def raise_opset(model: ModelProto, opset: int) -> ModelProto:
    """Return a model in at least an opset, by ONNX's own converter.

    Raises:
        ImfDeployError: the converter does not know an operator.
    """
    from onnx import version_converter

    if default_opset(model) >= opset:
        return model
    try:
        raised: ModelProto = version_converter.convert_version(model, opset)
    except Exception as error:  # its errors share no base class
        raise ImfDeployError(
            f"opset {default_opset(model)} cannot be raised to {opset}",
            "Export it again with a newer `opset`",
        ) from error
    return raised


def _needs_newer(operator: str, opset: int) -> ImfDeployError:
    return ImfDeployError(
        f"the network needs {operator}, which opset {opset} cannot express", "Use a newer `opset`"
    )


Constants = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class _Known:
    """What is known of the tensors of a model."""

    constants: Constants
    shapes: Mapping[str, list[int | str]]


def _fits(node: NodeProto, known: _Known) -> bool:
    """Return whether a node has an equal form in every older opset; changed to it, in place."""
    if node.op_type in _TYPES_ONLY:
        return True
    if node.op_type in _ADDED:
        return _without(node, _ADDED[node.op_type])
    rule = _RULES.get("Reduce" if node.op_type.startswith("Reduce") else node.op_type)
    return rule is not None and rule(node, known)


def _without(node: NodeProto, neutral: Mapping[str, Any]) -> bool:
    """Remove attributes that newer opsets added, if their values are neutral."""
    given = _attributes(node)
    if any(given[key] != value for key, value in neutral.items() if key in given):
        return False
    _keep(node, [key for key in given if key not in neutral])
    return True


def _reduce(node: NodeProto, known: _Known) -> bool:
    """Move the axes from an input, where opset 18 has them, to an attribute."""
    from onnx import helper

    if len(node.input) < 2 or not node.input[1]:
        return _without(node, {"noop_with_empty_axes": 0})
    axes = known.constants.get(node.input[1])
    if axes is None or not axes.size:
        return False
    _keep(node, [key for key in _attributes(node) if key != "noop_with_empty_axes"])
    node.attribute.append(helper.make_attribute("axes", [int(axis) for axis in axes]))
    del node.input[1:]
    return True


def _split(node: NodeProto, known: _Known) -> bool:
    """Drop the number of outputs, which opset 18 needs if no sizes are given; older ones divide evenly."""
    given = _attributes(node)
    if "num_outputs" in given:
        axis = given.get("axis", 0)
        shapes = [known.shapes.get(name, []) for name in node.output]
        sizes = {shape[axis] if -len(shape) <= axis < len(shape) else "?" for shape in shapes}
        if len(sizes) > 1 or not isinstance(next(iter(sizes)), int):
            return False
        _keep(node, [key for key in given if key != "num_outputs"])
    return True


def _pad(node: NodeProto, _: _Known) -> bool:
    return len(node.input) < 4 or not node.input[3]


_TYPES_ONLY = (
    "Add", "CumSum", "Div", "GreaterOrEqual", "Identity", "LeakyRelu", "LessOrEqual", "Mul", "PRelu", "Pow",
    "Relu", "Sub", "Where",
)  # fmt: skip
"""Operators whose newer versions, up to opset 18, only accept more types."""
_ADDED: dict[str, dict[str, Any]] = {
    "BatchNormalization": {"training_mode": 0},
    "Reshape": {"allowzero": 0},
    "Resize": {"antialias": 0, "axes": [], "keep_aspect_ratio_policy": b"stretch"},
    "Shape": {"start": 0, "end": None},
}
"""Attributes that newer versions added, with the values that change nothing."""
_RULES: dict[str, Callable[[NodeProto, _Known], bool]] = {"Reduce": _reduce, "Split": _split, "Pad": _pad}


def _over_image(node: NodeProto, shape: list[int | str], constants: Constants) -> bool:
    axes = _attributes(node).get("axes")
    if axes is None and len(node.input) > 1 and node.input[1] in constants:
        axes = constants[node.input[1]].tolist()
    return len(shape) == 4 and axes is not None and sorted(axis % 4 for axis in axes) == list(_SPATIAL)


def _to_vectors(before: list[int | str], after: list[int | str], wanted: npt.NDArray[Any] | None) -> bool:
    """Return whether a reshape keeps the batch, and makes one axis of all others.

    Args:
        before: Shape of its input.
        after: Shape of its output.
        wanted: Its constant shape; ``None`` if it is computed.
    """
    sizes = [size for size in before[1:] if isinstance(size, int)]
    if not sizes or len(sizes) != len(before) - 1:
        return False
    whole = math.prod(sizes)
    if wanted is not None and wanted.tolist() in ([-1, whole], [0, whole], [0, -1]):
        return True
    return len(after) == 2 and before[0] == after[0] != "?" and after[1] == whole


def _constants(model: ModelProto) -> dict[str, npt.NDArray[Any]]:
    from onnx import numpy_helper

    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and "value" in (given := _attributes(node)):
            values[node.output[0]] = numpy_helper.to_array(given["value"])
    return values


def _shapes(model: ModelProto) -> dict[str, list[int | str]]:
    graph = model.graph
    return {value.name: tensor_shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}


def _attributes(node: NodeProto) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _keep(node: NodeProto, names: list[str]) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def _copy(node: NodeProto) -> NodeProto:
    from onnx import NodeProto as Proto

    copied = Proto()
    copied.CopyFrom(node)
    return copied


def _drop_unused(model: ModelProto) -> None:
    """Remove nodes and weights that no output depends on, in place."""
    from onnx import NodeProto

    graph = model.graph
    inner = {name for part in messages(graph) if isinstance(part, NodeProto) for name in part.input}
    top = {name for node in graph.node for name in node.input}
    used = {value.name for value in graph.output} | (inner - top)  # subgraphs read values of the graph
    kept = []
    for node in reversed(graph.node):
        if used & set(node.output):
            used.update(node.input)
            kept.append(_copy(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    if len(tensors) < len(graph.initializer):
        dropped = {tensor.name for tensor in graph.initializer} - {tensor.name for tensor in tensors}
        for index in reversed(range(len(graph.initializer))):
            if graph.initializer[index].name in dropped:
                del graph.initializer[index]
