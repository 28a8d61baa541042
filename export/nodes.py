"""Read and edit the nodes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from imf_deploy.export.onnx_file import messages, tensor_shape

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Constants = Mapping[str, npt.NDArray[Any]]
Shapes = Mapping[str, list[int | str]]


def constants_of(model: ModelProto) -> dict[str, npt.NDArray[Any]]:
    """Return the values of a graph's weights and constants, by name."""
    from onnx import numpy_helper

    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and "value" in (given := attributes_of(node)):
            values[node.output[0]] = numpy_helper.to_array(given["value"])
    return values


def shapes_of(model: ModelProto) -> dict[str, list[int | str]]:
    """Return the shapes that a model stores, by name; a string is a free dimension."""
    graph = model.graph
    return {value.name: tensor_shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Return the values of a node's attributes, by name."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def keep_attributes(node: NodeProto, names: list[str]) -> None:
    """Remove all other attributes of a node."""
    kept = [attribute for attribute in node.attribute if attribute.name in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def copy_node(node: NodeProto) -> NodeProto:
    """Return a copy that outlives the graph of a node."""
    from onnx import NodeProto as Proto

    copied = Proto()
    copied.CopyFrom(node)
    return copied


def drop_unused(model: ModelProto) -> None:
    """Remove nodes and weights that no output depends on, in place."""
    from onnx import NodeProto

    graph = model.graph
    used = {value.name for value in graph.output}
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        inner = [part for part in messages(attribute) if isinstance(part, NodeProto)]
        used.update(name for node in inner for name in node.input)  # subgraphs read values of the graph
    kept = []
    for node in reversed(graph.node):
        if used & set(node.output):
            used.update(node.input)
            kept.append(copy_node(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in used:
            del graph.initializer[index]
