"""Remove the casts of an fp16 conversion that only lead to fp16 and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def join_casts(model: ModelProto) -> None:
    """Connect neighbouring fp32 nodes directly, in place, so that no value between them is rounded to fp16.

    ``convert_float_to_float16`` casts every input and output of a node that stays in fp32. A value that is
    too large for fp16 would become infinite on its way from one such node to the next.
    """
    from onnx import TensorProto

    nodes = list(model.graph.node)
    casts = {node.output[0]: node for node in nodes if node.op_type == "Cast"}
    inputs = {value.name for value in model.graph.input}
    outputs = {value.name for value in model.graph.output}
    direct: dict[str, str] = {}
    renamed: dict[str, str] = {}
    for name, cast in casts.items():
        rounding = casts.get(cast.input[0])
        if rounding is None or _type(cast) != TensorProto.FLOAT or _type(rounding) != TensorProto.FLOAT16:
            continue
        if name not in outputs:
            direct[name] = rounding.input[0]
        elif rounding.input[0] not in inputs:
            renamed[rounding.input[0]] = name  # an output of the graph keeps its name
    dropped = {*direct, *renamed.values()}
    kept = [node for node in nodes if not (node.op_type == "Cast" and node.output[0] in dropped)]
    for node in kept:
        for place, name in enumerate(node.input):
            source = direct.get(name, name)
            node.input[place] = renamed.get(source, source)
        for place, name in enumerate(node.output):
            node.output[place] = renamed.get(name, name)
    read = {name for node in kept for name in node.input} | outputs
    kept = [node for node in kept if node.op_type != "Cast" or node.output[0] in read]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    _drop_infos(model)


def _type(cast: NodeProto) -> int:
    return int(next(attribute.i for attribute in cast.attribute if attribute.name == "to"))


def _drop_infos(model: ModelProto) -> None:
    """Remove descriptions of values that no longer exist."""
    written = {name for node in model.graph.node for name in node.output}
    infos = [value for value in model.graph.value_info if value.name in written]
    del model.graph.value_info[:]
    model.graph.value_info.extend(infos)
