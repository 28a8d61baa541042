"""GELU of six operators is no layer, in whatever order an exporter writes it."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference

from imf_deploy.calib.layers import find_layers, gelu_nodes

Operator = tuple[str, list[str], str]
START: list[Operator] = [("Div", ["x", "root"], "s"), ("Erf", ["s"], "e"), ("Add", ["e", "one"], "a")]
GELU: dict[str, list[Operator]] = {
    "half of the source": [("Mul", ["x", "half"], "h"), *START, ("Mul", ["h", "a"], "y")],
    "source, then a half": [*START, ("Mul", ["x", "a"], "m"), ("Mul", ["m", "half"], "y")],
    "a half, then the source": [*START, ("Mul", ["a", "half"], "m"), ("Mul", ["m", "x"], "y")],
    "the reciprocal root": [
        ("Mul", ["root", "x"], "s"),
        *START[1:],
        ("Mul", ["a", "x"], "m"),
        ("Mul", ["m", "half"], "y"),
    ],
}
OTHER: dict[str, list[Operator]] = {
    "an error function alone": [*START, ("Mul", ["a", "half"], "y")],
    "a product with another value": [("Add", ["x", "wide"], "o"), *START, ("Mul", ["a", "o"], "y")],
    "a factor for each channel": [*START, ("Mul", ["a", "wide"], "m"), ("Mul", ["m", "x"], "y")],
}


def graph(operators: list[Operator]) -> ModelProto:
    values = {"root": 2**0.5, "one": 1.0, "half": 0.5, "wide": [1.0, 2.0]}
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2])] for name in ("x", "out")]
    nodes = [helper.make_node(kind, inputs, [output], output) for kind, inputs, output in operators]
    nodes.append(helper.make_node("Add", ["y", "wide"], ["out"], "last"))
    tensors = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in values.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", *ends, tensors), opset_imports=[helper.make_opsetid("", 17)]
    )
    return shape_inference.infer_shapes(model)


@pytest.mark.parametrize("form", GELU)
def test_gelu_of_an_older_opset_is_no_layer(form: str) -> None:
    model = graph(GELU[form])
    assert gelu_nodes(model) == {output for _, _, output in GELU[form]}
    assert [layer.name for layer in find_layers(model)] == ["last"]


@pytest.mark.parametrize("form", OTHER)
def test_what_only_resembles_gelu_is_quantised(form: str) -> None:
    model = graph(OTHER[form])
    assert not gelu_nodes(model)
    assert {layer.op_type for layer in find_layers(model)} >= {"Add", "Mul"}
