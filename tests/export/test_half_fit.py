"""Which nodes of a graph stay in fp32, from its weights and given ranges alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from imf_deploy.export.half import to_half
from imf_deploy.export.half_arithmetic import emulate_half
from imf_deploy.export.half_fit import LOST, SMALLEST, count_casts, find_kept
from imf_deploy.portability.session import cpu_session

LARGE = ("first", "second")


def chain(large: tuple[str, ...] = LARGE, shared: bool = False) -> ModelProto:
    """Three matrix products with a ReLU behind each of the first two; ``large`` names products of 1e5."""
    nodes, weights, source = [], [], "x"
    for name, follows in (("first", "relu"), ("second", "clip"), ("third", "")):
        matrix = "same" if shared else f"w_{name}"
        nodes.append(helper.make_node("MatMul", [source, matrix], [name], name))
        source = name
        if follows:
            nodes.append(helper.make_node("Relu", [name], [follows], follows))
            source = follows
        if not shared or not weights:
            values = np.eye(4, dtype=np.float32) * (1e5 if name in large else 0.5)
            weights.append(numpy_helper.from_array(values, matrix))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])]
    outputs = [helper.make_tensor_value_info("third", TensorProto.FLOAT, ["batch", 4])]
    graph = helper.make_graph(nodes, "chain", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


RANGES = dict.fromkeys(("x", "first", "relu", "second", "clip", "third"), (0.0, 1.0))


def test_an_operator_between_kept_nodes_joins_them() -> None:
    model = chain()
    kept = find_kept(model, RANGES)
    assert [node.node for node in kept] == ["first", "relu", "second"]
    assert [node.reason for node in kept] == [
        "the weights 'w_first' reach 1e+05", "it saves Casts between such nodes",
        "the weights 'w_second' reach 1e+05",
    ]  # fmt: skip
    names = {node.node for node in kept}
    half = to_half(model, names)
    onnx.checker.check_model(half, full_check=True)
    assert [node.op_type for node in half.graph.node].count("Cast") == 2
    assert count_casts(chain(), names, RANGES.keys()) == 2
    assert count_casts(chain(), set(LARGE), RANGES.keys()) == 4


@pytest.mark.parametrize(
    ("range_", "kept"),
    [
        ((0.0, 3.2e4), set()),
        ((0.0, 3.3e4), {"first", "relu"}),
        ((-3.3e4, 0.0), {"first", "relu"}),
        ((0.0, SMALLEST), set()),
        ((0.0, SMALLEST / 2), {"first", "relu"}),
        ((0.0, 0.0), set()),
    ],
)
def test_an_activation_keeps_all_that_touch_it(range_: tuple[float, float], kept: set[str]) -> None:
    assert {node.node for node in find_kept(chain(()), RANGES | {"first": range_})} == kept


def test_weights_that_rounding_changes() -> None:
    model = chain(())
    for factor, lost in ((1.0, False), (2.0**-20, False), (1.3 * 2.0**-23, True), (2.0**-30, True)):
        weights = np.full((4, 4), factor, np.float32)
        error = np.linalg.norm(weights - weights.astype(np.float16)) / np.linalg.norm(weights)
        assert (error > LOST) == lost
        model.graph.initializer[2].CopyFrom(numpy_helper.from_array(weights, "w_third"))
        assert [node.node for node in find_kept(model)] == (["third"] if lost else [])


def test_weights_that_two_nodes_share() -> None:
    model = chain(("first",), shared=True)
    half = to_half(model, {"first", "relu", "second", "clip", "third"})
    images = np.full((2, 4), 1e-9, np.float32)
    expected = cpu_session(chain(("first",), shared=True).SerializeToString()).run(None, {"x": images})[0]
    answers = cpu_session(emulate_half(half).SerializeToString()).run(None, {"x": images})[0]
    np.testing.assert_array_equal(answers, expected)
    # A weight of both kinds is stored twice; rounded in one of them alone.
    mixed = to_half(chain((), shared=True), {"second"})
    kinds = {tensor.name: tensor.data_type for tensor in mixed.graph.initializer}
    assert kinds == {"same": TensorProto.FLOAT16, "same/fp32": TensorProto.FLOAT}
