"""The fp16 form of INT8 files that engines are built from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.engine_form import ENGINE_FLOATS, engine_source, half_form
from imf_deploy.export.tensorrt_writer import build_engine
from imf_deploy.settings import BatchRange

CHANNELS = 4


def quantised(
    weight_scales: list[float], about: dict[str, Any] | None = None, opset: int = 20
) -> onnx.ModelProto:
    """Return Q -> DQ -> Conv with int8 weights -> LeakyRelu of slope 1 -> mean."""
    generator = np.random.default_rng(0)
    weights = {
        "scale": np.float32(0.0371),
        "zero": np.int8(0),
        "weight": generator.integers(-127, 128, (CHANNELS, 3, 3, 3), dtype=np.int8),
        "weight_scale": np.array(weight_scales, np.float32),
        "weight_zero": np.zeros(CHANNELS, np.int8),
        "bias": generator.standard_normal(CHANNELS).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["w"], axis=0),
        helper.make_node("Conv", ["dq", "w", "bias"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["c"], ["same"], alpha=1.0),
        helper.make_node("LeakyRelu", ["same"], ["leaky"], alpha=0.1),
        helper.make_node("GlobalAveragePool", ["leaky"], ["p"]),
        helper.make_node("Flatten", ["p"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CHANNELS])],
        [numpy_helper.from_array(np.array(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    if about is not None:
        helper.set_model_props(model, {"quantization": json.dumps(about)})
    return model


def logits(model: onnx.ModelProto) -> np.ndarray:
    images = np.random.default_rng(1).standard_normal((2, 3, 8, 8), np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    found: np.ndarray = onnxruntime.InferenceSession(model.SerializeToString(), options).run(
        None, {"images": images}
    )[0]
    return found


@pytest.mark.parametrize(
    ("scales", "opset"),
    [
        ([0.01, 0.02, 0.03, 0.04], 20),
        ([0.01, 0.02, 0.03, 0.04], 17),  # whose Q/DQ accept no fp16
        ([1e-2, 3.3e-6, 1.7e-7, 1e-12], 20),  # below the smallest normal fp16 number, and below every one
    ],
)
def test_the_fp16_form_answers_as_the_file(scales: list[float], opset: int) -> None:
    expected = logits(quantised(scales, opset=opset))
    half = half_form(quantised(scales, opset=opset))
    onnx.checker.check_model(half, full_check=True)
    np.testing.assert_allclose(logits(half), expected, rtol=0.01, atol=0.01)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in half.graph.initializer}
    assert {value.dtype for value in values.values()} == {np.dtype(np.int8), np.dtype(np.float16)}
    assert (values["weight_scale"] > 0).all()
    # Nothing is left that only matters in ONNX Runtime; another slope is the network's own.
    assert [n.output[0] for n in half.graph.node if n.op_type == "LeakyRelu"] == ["leaky"]
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_a_scale_beyond_fp16_is_refused() -> None:
    with pytest.raises(ImfDeployError, match="scale 'weight_scale' does not fit into fp16"):
        half_form(quantised([1e5, 1, 1, 1]))


@pytest.mark.parametrize(
    ("about", "half"),
    [
        ({ENGINE_FLOATS: "fp16"}, True),
        ({ENGINE_FLOATS: "fp32"}, False),
        ({}, False),
        ([1], False),
        (None, False),
    ],
)
def test_the_file_says_what_its_engine_computes_in(about: Any, half: bool, tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    onnx.save(quantised([0.01] * CHANNELS, about), path)
    source = engine_source(path)
    assert (source is not None) == half
    if source is not None:
        kinds = {tensor.data_type for tensor in onnx.load_from_string(source).graph.initializer}
        assert kinds == {TensorProto.INT8, TensorProto.FLOAT16}
        assert engine_source(path) == source
    info = build_engine(path, tmp_path / "int8.engine", "rtx", BatchRange(1, 2, 4))
    assert info.onnx.precision == "int8"
