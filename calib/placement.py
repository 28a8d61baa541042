"""Positions of Q/DQ in an INT8 file for TensorRT.

TensorRT fuses the operators between two Q/DQ pairs into one kernel. A convolution writes int8 only if
everything that is fused into it also reads int8: with a float tensor in a residual sum it writes floats, and
the next layer has to quantise them again. Source: NVIDIA TensorRT documentation, "Explicit Quantization",
recommendations for the placement of Q/DQ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from onnx import ModelProto, NodeProto

from imf_deploy.calib.graph_edits import GraphEdits
from imf_deploy.calib.ranges import Ranges
from imf_deploy.export.engine_form import LEVELS

Sums = Literal["shared", "skip", "both"]
"""The inputs of a residual sum that are quantised: those that a layer also reads, the one that is not fused
with a convolution, or both."""


@dataclass(frozen=True)
class Placement:
    """The form of an INT8 file for TensorRT.

    Attributes:
        sums: Inputs of residual sums that are quantised.
        relu: Whether a ``Clip`` whose upper end equals that of the following Q becomes a ``Relu``.
    """

    sums: Sums = "skip"
    relu: bool = True

    def apply(self, model: ModelProto, ranges: Ranges) -> None:
        """Convert a model with Q/DQ around its layers to this form, in place.

        Args:
            model: Model written by onnxruntime.quantization.
            ranges: Ranges of its activations.
        """
        if self.sums != "shared":
            quantize_sums(model, ranges, both=self.sums == "both")
        if self.relu:
            clips_to_relu(model)


def quantize_sums(model: ModelProto, ranges: Ranges, *, both: bool = False) -> None:
    """Let residual sums read int8, in place.

    This concerns sums of which one input is a quantised convolution that nothing else reads. TensorRT fuses
    the two, and the other input decides whether the kernel can write int8.

    Args:
        model: Model with Q/DQ around its layers.
        ranges: Ranges of its activations.
        both: Whether to quantise the output of the fused convolution as well.
    """
    edits = GraphEdits(model)
    for node in [node for node in model.graph.node if node.op_type == "Add"]:
        fused = _fused_input(edits, node)
        if fused is None:
            continue
        for place in (0, 1) if both else (1 - fused,):
            name = node.input[place]
            existing = edits.dequantised_form(name)
            if not edits.is_dequantised(name) and (existing or name in ranges):
                node.input[place] = existing or edits.add_pair(name, scale_of(*ranges[name]))
    edits.sort()


def scale_of(low: float, high: float) -> float:
    """Return the scale of a symmetric int8 activation; 1 if it is always zero."""
    return max(-low, high) / LEVELS or 1.0


def _fused_input(edits: GraphEdits, node: NodeProto) -> int | None:
    """Return the input of a sum that TensorRT fuses with it: the quantised convolution computed last."""
    if any(edits.constant(name) is not None for name in node.input):
        return None
    candidates = [
        (edits.position(name), place)
        for place, name in enumerate(node.input)
        if (source := edits.producer(name)) is not None
        and source.op_type == "Conv"
        and all(edits.is_dequantised(operand) for operand in source.input[:2])
        and len(edits.readers(name)) == 1
    ]
    return max(candidates)[1] if candidates else None


def clips_to_relu(model: ModelProto) -> int:
    """Replace each ``Clip`` from 0 whose readers all saturate at its upper end by a ``Relu``, in place.

    The answers stay the same, because Q saturates there, and TensorRT fuses ``Relu`` into every convolution.

    Returns:
        Number of replacements.
    """
    edits = GraphEdits(model)
    changed = 0
    for node in model.graph.node:
        if node.op_type != "Clip" or len(node.input) != 3 or edits.is_output(node.output[0]):
            continue
        low, high = (edits.constant(name) for name in node.input[1:])
        if low is None or high is None or low.item() != 0:
            continue
        # The upper end itself must already be rounded to the largest level.
        steps = [high.item() / scale for scale in _scales_of_readers(edits, node.output[0])]
        if steps and min(steps) >= LEVELS - 0.5:
            node.op_type = "Relu"
            del node.input[1:]
            changed += 1
    return changed


def _scales_of_readers(edits: GraphEdits, name: str) -> Iterator[float]:
    """Yield the scale of each Q that reads a tensor; infinity for every other reader."""
    for reader in edits.readers(name):
        scale = edits.constant(reader.input[1]) if reader.op_type == "QuantizeLinear" else None
        yield float("inf") if scale is None else scale.item()
