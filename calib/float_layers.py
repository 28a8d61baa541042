"""Layers that stay in float inside an INT8 file, and the operators that a session runs for them."""

import tempfile
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import onnx
from onnx import ModelProto, helper

from imf_deploy.portability.session import cpu_session

_INTEGER = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "ConvInteger")


def keep_in_float(model: ModelProto, layers: Collection[str]) -> None:
    """Insert an identity after some layers that onnxruntime does not remove, in place.

    In every session with default options, onnxruntime's ``WeightBiasQuantization`` optimiser would quantise a
    float layer between DQ and Q again, with its own weights. ``LeakyRelu`` with a slope of 1 changes no
    value, breaks that pattern, and is fused into the preceding layer; other identities are removed before the
    pattern is searched for. Operators without weights would likewise be fused with their DQ and Q, for
    example to ``QLinearAdd``. Source: ours.
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
    """Return the operators that a session with default options runs for an ONNX file, with their numbers.

    They are read from the graph that onnxruntime saves after all of its optimisations.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        cpu_session(path, optimised=optimised)
        graph = onnx.load(optimised).graph
    return dict(sorted(Counter(node.op_type for node in graph.node).items()))


def integer_layers(running: dict[str, int]) -> int:
    """Return how many layers of :func:`running_operators` compute in integers."""
    return sum(running.get(name, 0) for name in _INTEGER)
