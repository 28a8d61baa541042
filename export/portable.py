"""Write an exported graph in the operators, opset and IR version that old and simple runtimes load.

The answers stay the same. Measured by ``benchmarks/clients.py``, which makes the table in docs/onnx.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imf_deploy.export.nodes import (
    Constants,
    attributes_of,
    constants_of,
    copy_node,
    drop_unused,
    shapes_of,
)

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_SPATIAL = (2, 3)


def simplify(model: ModelProto) -> None:
    """Replace means over the whole image and reshapes to vectors by the operators made for them, in place.

    OpenCV 4.8 computes ``ReduceMean`` and ``Reshape`` silently wrongly, and their forms differ between
    opsets; ``GlobalAveragePool`` and ``Flatten`` are the same everywhere.

    Args:
        model: Model with the shapes of inner values, as exporters store them.
    """
    from onnx import helper

    graph, shapes, constants = model.graph, shapes_of(model), constants_of(model)
    nodes: list[NodeProto] = []
    for node in graph.node:
        source, result = node.input[0] if node.input else "", node.output[0]
        if node.op_type == "ReduceMean" and _over_image(node, shapes.get(source, []), constants):
            keeps = attributes_of(node).get("keepdims", 1)
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
    nodes = [copy_node(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(model)


def split_gemm(model: ModelProto) -> None:
    """Write ``Gemm`` with constant weights as ``MatMul`` and ``Add``, in place.

    tract refuses ``Gemm`` in fp16; ONNX Runtime and TensorRT fuse the two operators again.
    """
    from onnx import helper, numpy_helper

    graph, constants = model.graph, constants_of(model)
    readers = [name for node in graph.node for name in node.input]
    nodes: list[NodeProto] = []
    for node in graph.node:
        about = attributes_of(node)
        plain = all(
            about.get(key, wanted) == wanted for key, wanted in (("alpha", 1), ("beta", 1), ("transA", 0))
        )
        if node.op_type != "Gemm" or not plain or len(node.input) != 3 or node.input[1] not in constants:
            nodes.append(copy_node(node))
            continue
        weights = node.input[1]
        if about.get("transB", 0):
            if readers.count(weights) > 1:
                nodes.append(copy_node(node))
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


def _over_image(node: NodeProto, shape: list[int | str], constants: Constants) -> bool:
    axes = attributes_of(node).get("axes")
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
