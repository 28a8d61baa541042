"""Graphs as exporters of opset 7 to 12 wrote them answer the same after they were brought up to date."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.calib.prepare import OPSET, prepare
from imf_deploy.errors import ImfDeployError

OLD = range(7, OPSET)
IMAGES = np.random.default_rng(1).standard_normal((3, 3, 16, 16)).astype(np.float32)
Part = tuple[list[Any], dict[str, Any]]
"""Nodes from ``c``, the output of a convolution, to ``m``; and their weights."""

node = helper.make_node


def floats(*values: float) -> Any:
    return np.array(values, np.float32)


def scalar(value: float) -> Any:
    return np.array(value, np.float32)


def bounds(opset: int, source: str, result: str) -> Part:
    if opset < 11:
        return [node("Clip", [source], [result], min=0.0, max=6.0)], {}
    return [node("Clip", [source, "low", "high"], [result])], {"low": scalar(0), "high": scalar(6)}


def clip(opset: int) -> Part:
    return bounds(opset, "c", "m")


def hard_swish(opset: int) -> Part:
    inner, weights = bounds(opset, "a", "h")
    nodes = [node("Add", ["c", "three"], ["a"]), *inner, node("Mul", ["c", "h"], ["d"])]
    return [*nodes, node("Div", ["d", "six"], ["m"])], {"three": scalar(3), "six": scalar(6), **weights}


def dropout(opset: int) -> Part:
    if opset < 12:
        return [node("Dropout", ["c"], ["m", "mask"], ratio=0.5)], {}
    return [node("Dropout", ["c", "ratio"], ["m"])], {"ratio": scalar(0.5)}


def batch_norm(opset: int) -> Part:
    random = np.random.default_rng(2)
    names = ("scale", "bias", "mean", "var")
    weights = {name: (random.random(8) + 0.5).astype(np.float32) for name in names}
    spatial = {"spatial": 1} if opset < 9 else {}
    return [node("BatchNormalization", ["c", *names], ["n"], **spatial), node("Relu", ["n"], ["m"])], weights


def scaled(opset: int, mode: str) -> Part:
    factors = [1.0, 1.0, 2.0, 2.0]
    if opset < 9:
        return [node("Upsample", ["c"], ["m"], scales=factors, mode=mode)], {}
    scales = {"scales": floats(*factors)}
    if opset < 11:
        return [node("Upsample" if opset < 10 else "Resize", ["c", "scales"], ["m"], mode=mode)], scales
    corners = {"coordinate_transformation_mode": "align_corners"} if mode == "linear" else {}
    return [node("Resize", ["c", "roi", "scales"], ["m"], mode=mode, **corners)], {
        "roi": np.zeros(8, np.float32),
        **scales,
    }


def nearest(opset: int) -> Part:
    return scaled(opset, "nearest")


def linear(opset: int) -> Part:
    return scaled(opset, "linear")


def pad(opset: int) -> Part:
    sizes = [0, 0, 1, 1, 0, 0, 1, 1]
    if opset < 11:
        return [node("Pad", ["c"], ["m"], pads=sizes)], {}
    return [node("Pad", ["c", "sizes"], ["m"])], {"sizes": np.array(sizes)}


def part_of(opset: int) -> Part:
    if opset < 10:
        return [node("Slice", ["c"], ["m"], axes=[2], starts=[1], ends=[9])], {}
    weights = {"start": np.array([1]), "end": np.array([9]), "axis": np.array([2])}
    return [node("Slice", ["c", "start", "end", "axis"], ["m"])], weights


def channel_shuffle(opset: int) -> Part:
    nodes = [
        node("Split", ["c"], ["p", "q"], axis=1, split=[4, 4]),
        node("Concat", ["q", "p"], ["j"], axis=1),
        node("Reshape", ["j", "five"], ["r"]),
        node("Transpose", ["r"], ["t"], perm=[0, 2, 1, 3, 4]),
        node("Reshape", ["t", "four"], ["m"]),
    ]
    return nodes, {"five": np.array([-1, 2, 4, 16, 16]), "four": np.array([-1, 8, 16, 16])}


def squeeze(opset: int) -> Part:
    nodes = [
        node("ReduceMean", ["c"], ["p"], axes=[2, 3], keepdims=1),
        node("Squeeze", ["p"], ["s"], axes=[2, 3]),
        node("Unsqueeze", ["s"], ["m"], axes=[2, 3]),
    ]
    return nodes, {}


def flatten_by_shape(opset: int) -> Part:
    nodes = [
        node("GlobalAveragePool", ["c"], ["p"]),
        node("Shape", ["p"], ["shape"]),
        node("Gather", ["shape", "zero"], ["count"]),
        node("Unsqueeze", ["count"], ["counts"], axes=[0]),
        node("Concat", ["counts", "rest"], ["to"], axis=0),
        node("Reshape", ["p", "to"], ["f"]),
        node("ReduceSum", ["f"], ["sum"], axes=[1], keepdims=1),
        node("Div", ["f", "sum"], ["d"]),
        node("Softmax", ["d"], ["e"]),
        node("Unsqueeze", ["e"], ["m"], axes=[2, 3]),
    ]
    return nodes, {"zero": np.array(0), "rest": np.array([-1])}


PARTS: list[Callable[[int], Part]] = [
    batch_norm, channel_shuffle, clip, dropout, flatten_by_shape, hard_swish, linear, nearest, pad, part_of,
    squeeze,
]  # fmt: skip


def old_model(opset: int, part: Callable[[int], Part], inputs: bool = False) -> Any:
    """Return convolution, a part, mean, linear layer: ``[N, 3, 16, 16] -> [N, 4]``."""
    random = np.random.default_rng(0)
    inner, weights = part(opset)
    shapes = {"w": (8, 3, 3, 3), "b": (8,), "fw": (4, 8), "fb": (4,)}
    weights |= {
        name: (random.standard_normal(shape) / 3).astype(np.float32) for name, shape in shapes.items()
    }
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        *inner,
        node("GlobalAveragePool", ["m"], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("Gemm", ["flat", "fw", "fb"], ["y"], transB=1),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])]
    if inputs:
        values += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])]
    graph = helper.make_graph(nodes, "g", values, ends, tensors)
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=3 if inputs else 6)


def run(model: Any, images: Any = IMAGES) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": images})[0]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_old_opset_answers_the_same(tmp_path: Path, part: Callable[[int], Part]) -> None:
    for opset in OLD:
        model = old_model(opset, part)
        onnx.save(model, tmp_path / "old.onnx")
        prepared = prepare(tmp_path / "old.onnx")
        assert max(entry.version for entry in prepared.opset_import if not entry.domain) == OPSET
        onnx.checker.check_model(prepared, full_check=True)
        np.testing.assert_allclose(run(prepared), run(model), rtol=1e-4, atol=1e-5, err_msg=str(opset))


@pytest.mark.parametrize("opset", [7, 9, 12])
def test_weights_among_the_inputs(tmp_path: Path, opset: int) -> None:
    model = old_model(opset, batch_norm, inputs=True)
    onnx.save(model, tmp_path / "old.onnx")
    prepared = prepare(tmp_path / "old.onnx")
    assert [value.name for value in prepared.graph.input] == ["x"]
    assert "BatchNormalization" not in {part.op_type for part in prepared.graph.node}
    np.testing.assert_allclose(run(prepared), run(model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [11, 17])
def test_weights_in_constant_nodes(tmp_path: Path, opset: int, capfd: pytest.CaptureFixture[str]) -> None:
    model = old_model(opset, clip)
    constants = [node("Constant", [], [tensor.name], value=tensor) for tensor in model.graph.initializer]
    rest = list(model.graph.node)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend([*constants, *rest])
    onnx.save(model, tmp_path / "constants.onnx")
    prepared = prepare(tmp_path / "constants.onnx")
    assert {"w", "fw"} <= {tensor.name for tensor in prepared.graph.initializer}
    np.testing.assert_allclose(run(prepared), run(model), rtol=1e-4, atol=1e-5)
    assert capfd.readouterr() == ("", "")


def test_a_batch_of_minus_one_is_free(tmp_path: Path) -> None:
    model = old_model(13, clip)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    onnx.save(model, tmp_path / "free.onnx")
    prepared = prepare(tmp_path / "free.onnx")
    assert prepared.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert run(prepared, IMAGES[:2]).shape == (2, 4)


def test_what_onnx_cannot_upgrade_is_refused_with_the_opset(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def strange(opset: int) -> Part:
        return [node("Frobnicate", ["c"], ["m"])], {}

    onnx.save(old_model(9, strange), tmp_path / "old.onnx")
    with pytest.raises(ImfDeployError, match=r"has opset 9, INT8 needs 13 or newer.*Frobnicate") as caught:
        prepare(tmp_path / "old.onnx")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_functions_are_inlined(tmp_path: Path) -> None:
    model = old_model(13, clip)
    convolution = model.graph.node[0]
    function = helper.make_function(
        "own", "Layer", ["i", "k", "j"], ["o"],
        [node("Conv", ["i", "k", "j"], ["o"], pads=[1, 1, 1, 1])], [helper.make_opsetid("", 13)],
    )  # fmt: skip
    convolution.CopyFrom(node("Layer", ["x", "w", "b"], ["c"], domain="own"))
    model.functions.append(function)
    model.opset_import.add(domain="own", version=1)
    onnx.save(model, tmp_path / "function.onnx")
    prepared = prepare(tmp_path / "function.onnx")
    assert next(part.op_type for part in prepared.graph.node) == "Conv"
    np.testing.assert_allclose(run(prepared), run(model), rtol=1e-4, atol=1e-5)


def test_weights_behind_operators_become_constants(tmp_path: Path) -> None:
    model = old_model(13, clip)
    linear_layer = model.graph.node[-1]
    model.graph.node.remove(linear_layer)
    model.graph.node.extend(
        [
            node("Transpose", ["fw"], ["turned"], perm=[1, 0]),
            node("MatMul", ["flat", "turned"], ["product"]),
            node("Add", ["product", "fb"], ["y"]),
        ]
    )
    onnx.save(model, tmp_path / "turned.onnx")
    prepared = prepare(tmp_path / "turned.onnx")
    weights = {tensor.name for tensor in prepared.graph.initializer}
    (product,) = (part for part in prepared.graph.node if part.op_type in ("MatMul", "Gemm"))
    assert product.input[1] in weights
    np.testing.assert_allclose(run(prepared), run(model), rtol=1e-4, atol=1e-5)


def test_names_are_given_and_made_unlike(tmp_path: Path) -> None:
    model = old_model(13, hard_swish)
    names = ["same", "", "same", "Add_1", "", "Mul_4", "same", "", "x"]
    for part, name in zip(model.graph.node, names, strict=False):
        part.name = name
    onnx.save(model, tmp_path / "names.onnx")
    found = [part.name for part in prepare(tmp_path / "names.onnx").graph.node]
    assert len(set(found)) == len(found)
    assert "" not in found
    assert found[0] == "same"


def test_shapes_that_contradict_the_graph_are_dropped(tmp_path: Path) -> None:
    """As where somebody gave every first dimension another size by hand."""
    model = old_model(13, clip)
    model.graph.value_info.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 3, 3, 3]))
    with pytest.raises(onnx.shape_inference.InferenceError):
        onnx.shape_inference.infer_shapes(model)
    onnx.save(model, tmp_path / "stale.onnx")
    prepared = prepare(tmp_path / "stale.onnx")
    known = {value.name: value.type.tensor_type.shape.dim[1].dim_value for value in prepared.graph.value_info}
    assert known["c"] == 8
    np.testing.assert_allclose(run(prepared), run(model), rtol=1e-4, atol=1e-5)
