"""The precision of graphs as several exporters and quantisers write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.export.onnx_file import describe_onnx


def write(path: Path, kind: int, weights: list[Any], nodes: list[Any] | None = None, domain: str = "") -> str:
    ends = [helper.make_tensor_value_info(name, kind, ["n", 4]) for name in "xy"]
    graph = helper.make_graph(
        nodes or [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], weights
    )
    imports = [helper.make_opsetid("", 21)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
    return describe_onnx(path).precision


def tensor(kind: int, name: str = "w", shape: tuple[int, ...] = (4, 4)) -> Any:
    return helper.make_tensor(name, kind, shape, np.ones(int(np.prod(shape))))


KINDS = {
    "fp32": TensorProto.FLOAT,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "float64": TensorProto.DOUBLE,
}


@pytest.mark.parametrize("name", KINDS)
def test_floats_in_initializers_and_in_constants(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    assert write(tmp_path / "a.onnx", kind, [tensor(kind)]) == name
    constant = helper.make_node("Constant", [], ["w"], value=tensor(kind))
    nodes = [constant, helper.make_node("MatMul", ["x", "w"], ["y"])]
    assert write(tmp_path / "b.onnx", kind, [], nodes) == name
    # Integers, and numbers of another type that are no weights, do not count.
    more = [tensor(kind), tensor(TensorProto.INT64, "shape"), tensor(TensorProto.FLOAT, "epsilon", ())]
    assert write(tmp_path / "c.onnx", kind, more) == name
    # A network without weights is of the type of its input.
    assert write(tmp_path / "d.onnx", kind, [], [helper.make_node("Relu", ["x"], ["y"])]) == name


def test_weights_in_a_branch_count(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT16, ["n", 4])],
        [tensor(TensorProto.FLOAT16)],
    )
    condition = helper.make_tensor("c", TensorProto.BOOL, (), [1])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    assert write(tmp_path / "a.onnx", TensorProto.FLOAT16, [condition], [node]) == "fp16"


def test_two_types_of_weights_are_both_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.BFLOAT16),
        helper.make_node("MatMul", ["b", "v"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = [tensor(TensorProto.FLOAT), tensor(TensorProto.BFLOAT16, "v")]
    assert write(tmp_path / "a.onnx", TensorProto.FLOAT, weights, nodes) == "mixed (bf16, fp32)"


def test_what_onnxruntime_quantises(tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantFormat, quantize_dynamic, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{"x": np.ones((2, 4), np.float32)}])

        def get_next(self) -> Any:
            return next(self.batches, None)

    source = tmp_path / "float.onnx"
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    assert write(source, TensorProto.FLOAT, [weight]) == "fp32"
    quantize_dynamic(source, tmp_path / "dynamic.onnx")
    assert describe_onnx(tmp_path / "dynamic.onnx").precision == "int8 (dynamic)"
    for form in (QuantFormat.QDQ, QuantFormat.QOperator):
        quantize_static(source, tmp_path / "static.onnx", Reader(), quant_format=form)
        assert describe_onnx(tmp_path / "static.onnx").precision == "int8"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (TensorProto.INT8, "int8 weights"),
        (TensorProto.UINT4, "int4 weights"),
        (TensorProto.INT4, "int4 weights"),
        (TensorProto.FLOAT8E4M3FN, "float8 weights"),
    ],
)
def test_quantised_weights_alone(tmp_path: Path, kind: int, name: str) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["v"]),
        helper.make_node("MatMul", ["x", "v"], ["y"]),
    ]
    weights = [tensor(kind), tensor(TensorProto.FLOAT, "s", ()), tensor(TensorProto.INT64, "shape")]
    assert write(tmp_path / "a.onnx", TensorProto.FLOAT, weights, nodes) == name


def test_weights_in_blocks(tmp_path: Path) -> None:
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", bits=4, K=4, N=4, block_size=16
    )
    weights = [tensor(TensorProto.UINT8, "w", (4, 1, 8)), tensor(TensorProto.FLOAT, "s")]
    found = write(tmp_path / "a.onnx", TensorProto.FLOAT, weights, [node], "com.microsoft")
    assert found == "int4 weights"


def test_float8_with_ranges(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    weights = [tensor(TensorProto.FLOAT, "s", ()), tensor(TensorProto.FLOAT8E4M3FN, "z", ())]
    assert write(tmp_path / "a.onnx", TensorProto.FLOAT, weights, nodes) == "float8"
