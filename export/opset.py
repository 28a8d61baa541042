"""Write a graph in an older or a newer opset, with the same answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.nodes import (
    Constants,
    Shapes,
    attributes_of,
    constants_of,
    drop_unused,
    keep_attributes,
    shapes_of,
)
from imf_deploy.export.onnx_file import default_opset, messages

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSET = 17
"""The default: the newest opset with IR version 8, which ONNX Runtime 1.12 and newer load."""
TRACED_OPSET = 18
"""The oldest opset that PyTorch's exporter writes; if it is asked for an older one, it writes this."""


def lower_opset(model: ModelProto, opset: int) -> None:
    """Write a model in an older opset, in place.

    Args:
        model: Model in :data:`TRACED_OPSET` or a newer opset; not changed if its opset is not newer.
        opset: The opset to write.

    Raises:
        ImfDeployError: an operator of the model does not exist in it, or has no equal form there.
    """
    from onnx import NodeProto, defs

    have, known = default_opset(model), _Known(constants_of(model), shapes_of(model))
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
    drop_unused(model)
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


@dataclass(frozen=True)
class _Known:
    """What is known of the tensors of a model."""

    constants: Constants
    shapes: Shapes


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
    given = attributes_of(node)
    if any(given[key] != value for key, value in neutral.items() if key in given):
        return False
    keep_attributes(node, [key for key in given if key not in neutral])
    return True


def _reduce(node: NodeProto, known: _Known) -> bool:
    """Move the axes from an input, where opset 18 has them, to an attribute."""
    from onnx import helper

    if len(node.input) < 2 or not node.input[1]:
        return _without(node, {"noop_with_empty_axes": 0})
    axes = known.constants.get(node.input[1])
    if axes is None or not axes.size:
        return False
    keep_attributes(node, [key for key in attributes_of(node) if key != "noop_with_empty_axes"])
    node.attribute.append(helper.make_attribute("axes", [int(axis) for axis in axes]))
    del node.input[1:]
    return True


def _split(node: NodeProto, known: _Known) -> bool:
    """Drop the number of outputs, which opset 18 needs if no sizes are given; older ones divide evenly."""
    given = attributes_of(node)
    if "num_outputs" in given:
        axis = given.get("axis", 0)
        shapes = [known.shapes.get(name, []) for name in node.output]
        sizes = {shape[axis] if -len(shape) <= axis < len(shape) else "?" for shape in shapes}
        if len(sizes) > 1 or not isinstance(next(iter(sizes)), int):
            return False
        keep_attributes(node, [key for key in given if key != "num_outputs"])
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
