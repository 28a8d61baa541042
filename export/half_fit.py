"""Find the nodes of an fp32 model whose numbers do not fit into fp16, and those that join them.

Source of the idea: ModelOpt's AutoCast, which keeps nodes in fp32 by the magnitude of their weights and of
their activations on images. Here a value that is too small is a reason as well, and so is a Cast saved.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from imf_deploy.export.half import LARGEST_HALF
from imf_deploy.records.half import KeptNode

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

HEADROOM = 2
"""Activations of images that were not measured may be this many times as large."""
SMALLEST = 2.0**-18
"""Smallest extreme of an activation: of a smaller one, fp16 keeps fewer than 6 bits."""
LOST = 2.0**-6
"""Largest part of a tensor of weights that rounding to fp16 may change, in the Euclidean norm."""
_HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def find_kept(model: ModelProto, ranges: Mapping[str, tuple[float, float]] | None = None) -> list[KeptNode]:
    """Return the nodes that must stay in fp32, and those that join them, in the order of the graph.

    Args:
        model: An fp32 model with a name for each node.
        ranges: For each float activation, its smallest and its largest value on images; without them, only
            weights are judged, and no node is kept to save Casts.
    """
    kept = _misfits(model, ranges or {})
    if kept and ranges:
        kept |= _joining(model, kept.keys(), ranges.keys())
    return [kept[node.name] for node in model.graph.node if node.name in kept]


def count_casts(model: ModelProto, kept: Collection[str], floats: Collection[str]) -> int:
    """Return how many Casts a model needs if some of its nodes stay in fp32.

    Args:
        model: An fp32 model; its inputs and outputs stay fp32.
        kept: Names of the nodes that stay in fp32.
        floats: Names of its float activations.
    """
    wide = {value.name for value in model.graph.input}
    wide |= {name for node in model.graph.node if node.name in kept for name in node.output}
    read_wide = {value.name for value in model.graph.output}
    read_narrow: set[str] = set()
    for node in model.graph.node:
        (read_wide if node.name in kept else read_narrow).update(node.input)
    return sum(name in (read_narrow if name in wide else read_wide) for name in floats)


def _misfits(model: ModelProto, ranges: Mapping[str, tuple[float, float]]) -> dict[str, KeptNode]:
    from onnx import numpy_helper

    reasons = {name: reason for name, ends in ranges.items() if (reason := _activation(name, *ends))}
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and (reason := _weights(tensor.name, values)):
            reasons[tensor.name] = reason
    found = {}
    for node in model.graph.node:
        if reason := next((reasons[name] for name in (*node.input, *node.output) if name in reasons), ""):
            found[node.name] = KeptNode(node.name, node.op_type, reason)
    return found


def _activation(name: str, low: float, high: float) -> str:
    """Return why an activation does not fit; empty if it does."""
    largest = max(-low, high)
    if largest * HEADROOM > LARGEST_HALF:
        return f"'{name}' reaches {largest:.3g}"
    if 0 < largest < SMALLEST:
        return f"'{name}' only reaches {largest:.3g}"
    return ""


def _weights(name: str, values: npt.NDArray[np.float32]) -> str:
    """Return why weights do not fit; empty if they do."""
    wide = values.astype(np.float64)
    largest = float(np.abs(wide).max(initial=0.0))
    if largest > LARGEST_HALF:
        return f"the weights '{name}' reach {largest:.3g}"
    norm = float(np.sqrt((wide**2).sum()))
    error = float(np.sqrt(((wide - wide.astype(np.float16)) ** 2).sum()))
    return f"rounding changes the weights '{name}' by {error / norm:.1%}" if error > LOST * norm else ""


def _joining(model: ModelProto, kept: Collection[str], floats: Collection[str]) -> dict[str, KeptNode]:
    """Return groups of operators without weights that need fewer Casts if they stay in fp32 too."""
    names, joined = set(kept), {}
    casts = count_casts(model, names, floats)
    for group in _light_groups(model, names, floats):
        wider = names | {node.name for node in group}
        if (fewer := count_casts(model, wider, floats)) < casts:
            names, casts = wider, fewer
            for node in group:
                joined[node.name] = KeptNode(node.name, node.op_type, "it saves Casts between such nodes")
    return joined


def _light_groups(model: ModelProto, kept: Collection[str], floats: Collection[str]) -> list[list[NodeProto]]:
    """Return operators without weights that are not kept, grouped by the activations that connect them."""
    groups: list[tuple[set[str], list[NodeProto]]] = []
    for node in model.graph.node:
        if node.name in kept or node.op_type in _HEAVY:
            continue
        touched = {name for name in (*node.input, *node.output) if name in floats}
        near = [group for group in groups if group[0] & touched]
        groups = [group for group in groups if not group[0] & touched]
        groups.append(
            (touched.union(*(names for names, _ in near)), [*(n for _, nodes in near for n in nodes), node])
        )
    return [nodes for _, nodes in groups]
