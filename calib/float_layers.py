"""Layers that stay in float inside an INT8 file, and what a session makes of them."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import onnx
from onnx import ModelProto, helper

_INTEGER = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "ConvInteger")


def keep_in_float(model: ModelProto, layers: Collection[str]) -> None:
    """Put an identity after some layers that onnxruntime does not see through, in place.

    A float layer between DQ and Q is quantised again, with weights of its own choice, by its
    ``WeightBiasQuantization`` optimiser, in every session with default options. ``LeakyRelu`` with a
    slope of 1 changes no value, breaks that pattern, and is fused into the layer before it; other
    identities are removed before the pattern is looked for. Operators without weights would be fused
    with their DQ and Q likewise, to such as ``QLinearAdd``. Source: ours.
    """
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        model.graph.node.append(node)
        if node.name in layers:
            output, inner = node.output[0], f"{node.output[0]}/float"
            model.graph.node[-1].output[0] = inner
            model.graph.node.append(
                helper.make_node("LeakyRelu", [inner], [output], name=f"{node.name}/float", alpha=1.0)
            )


def running_operators(path: Path) -> dict[str, int]:
    """Return what a session with default options runs of an ONNX file: operator type to number.

    Read from the graph that onnxruntime saves after all of its optimisations.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # it warns that the saved graph is bound to this CPU
        options.optimized_model_filepath = str(optimised)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(optimised).graph
    return dict(sorted(Counter(node.op_type for node in graph.node).items()))


def integer_layers(running: dict[str, int]) -> int:
    """Return how many layers of :func:`running_operators` compute in integers."""
    return sum(running.get(name, 0) for name in _INTEGER)
