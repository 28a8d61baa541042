"""Graphs in older opsets and plainer operators give the same answers; what they cannot express is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.onnx_file import default_opset
from imf_deploy.export.onnx_writer import trace_onnx
from imf_deploy.export.opset import OPSET, lower_opset, raise_opset
from imf_deploy.export.portable import set_header, simplify, split_gemm

SHAPE = ("batch", 4, 6, 6)


def graph(nodes: list[onnx.NodeProto], opset: int = 18, out: int = 2, **constants: Any) -> onnx.ModelProto:
    """Return a model of ``x [batch, 4, 6, 6]`` whose last node computes ``y``."""
    tensors = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    ends = [
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * out)],
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "g", *ends, tensors),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )
    return onnx.shape_inference.infer_shapes(made)


def answers(model: onnx.ModelProto, batch: int = 3) -> np.ndarray:
    images = np.random.default_rng(0).standard_normal((batch, *SHAPE[1:]), np.float32)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"x": images})[0]
    return found


node = helper.make_node
PIECES = {
    "mean of the image": (
        [node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)],
        {"axes": [-1, 2]},
        ["GlobalAveragePool", "Flatten"],
    ),
    "mean that keeps its axes, and a reshape": (
        [node("ReduceMean", ["x", "axes"], ["m"]), node("Reshape", ["m", "shape"], ["y"])],
        {"axes": [2, 3], "shape": [-1, 4]},
        ["GlobalAveragePool", "Flatten"],
    ),
    "mean of the channels": (
        [node("ReduceMean", ["x", "axes"], ["m"], keepdims=0), node("Flatten", ["m"], ["y"])],
        {"axes": [1]},
        ["ReduceMean", "Flatten"],
    ),
    "largest value": (
        [node("ReduceMax", ["x", "axes"], ["y"], keepdims=0)],
        {"axes": [2, 3]},
        ["ReduceMax"],
    ),
    "reshape that mixes the batch": (
        [node("Reshape", ["x", "shape"], ["y"])],
        {"shape": [-1, 72]},
        ["Reshape"],
    ),
    "even split": (
        [
            node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
            node("Sub", ["a", "b"], ["d"]),
            node("Flatten", ["d"], ["y"]),
        ],
        {},
        ["Split", "Sub", "Flatten"],
    ),
}


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("opset", [13, OPSET])
def test_same_answers_in_plainer_operators_and_older_opsets(piece: str, opset: int) -> None:
    nodes, constants, operators = PIECES[piece]
    model = graph(nodes, **constants)
    expected = answers(model)
    simplify(model)
    lower_opset(model, opset)
    set_header(model)
    assert [n.op_type for n in model.graph.node] == operators
    assert default_opset(model) == opset
    assert model.ir_version == helper.find_min_ir_version_for(model.opset_import) <= 8
    assert not model.graph.value_info
    assert {t.name for t in model.graph.initializer} <= {name for n in model.graph.node for name in n.input}
    np.testing.assert_allclose(answers(model), expected, rtol=1e-6, atol=1e-6)


UNEVEN = [node("Split", ["x"], ["a", "b", "c"], axis=1, num_outputs=3), node("Flatten", ["a"], ["y"])]
SMALLER = node("Resize", ["x", "", "", "sizes"], ["r"], mode="linear", antialias=1)


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        (UNEVEN, {}),
        ([SMALLER, node("Flatten", ["r"], ["y"])], {"sizes": [1, 4, 3, 3]}),
        ([node("Mish", ["x"], ["m"]), node("Flatten", ["m"], ["y"])], {}),
    ],
    ids=["uneven split", "antialiasing", "new operator"],
)
def test_what_an_older_opset_cannot_express_is_refused(nodes: list[Any], constants: dict[str, Any]) -> None:
    model = graph(nodes, **constants)
    with pytest.raises(ImfDeployError, match=f"needs {nodes[0].op_type}, which opset 17 .*`opset`"):
        lower_opset(model, 17)


def test_linear_layers_are_split_only_where_that_is_equal() -> None:
    generator = np.random.default_rng(1)
    weights = {"w": generator.standard_normal((5, 144), np.float32), "b": np.arange(5, dtype=np.float32)}
    for gemm, split in (
        (node("Gemm", ["f", "w", "b"], ["y"], transB=1), True),
        (node("Gemm", ["f", "w", "b"], ["y"], transB=1, alpha=2.0), False),
        (node("Gemm", ["f", "w"], ["y"], transB=1), False),
    ):
        model = graph([node("Flatten", ["x"], ["f"]), gemm], **weights)
        expected = answers(model)
        split_gemm(model)
        assert [n.op_type for n in model.graph.node][1:] == (["MatMul", "Add"] if split else ["Gemm"])
        np.testing.assert_allclose(answers(model), expected, rtol=1e-5, atol=1e-5)


def test_an_opset_is_raised_for_engines() -> None:
    nodes, constants, _ = PIECES["largest value"]
    model = graph(nodes, **constants)
    lowered = copy.deepcopy(model)
    lower_opset(lowered, 17)
    raised = raise_opset(lowered, 19)
    assert default_opset(raised) == 19
    np.testing.assert_array_equal(answers(raised), answers(model))
    assert raise_opset(raised, 18) is raised


class Gelu(nn.Module):
    """A network whose operator is new in opset 20."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.gelu(images).mean((2, 3))


@pytest.mark.parametrize(("asked", "written"), [(None, OPSET), (17, 17), (20, 20)])
def test_the_opset_is_the_requested_one(asked: int | None, written: int) -> None:
    model = trace_onnx(Gelu().eval(), 8, asked)
    assert default_opset(model) == written
    assert ("Gelu" in {n.op_type for n in model.graph.node}) == (written == 20)


class Antialiased(nn.Module):
    """A network that opset 17 cannot express."""

    def forward(self, images: Tensor) -> Tensor:
        smaller = nn.functional.interpolate(images, (4, 4), mode="bilinear", antialias=True)
        return smaller.mean((2, 3))


def test_a_network_that_needs_a_newer_opset_gets_it_unless_an_older_one_is_requested() -> None:
    module = Antialiased().eval()
    assert default_opset(trace_onnx(module, 8)) == 18
    with pytest.raises(ImfDeployError, match="Resize"):
        trace_onnx(module, 8, 17)
