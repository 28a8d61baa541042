"""A finished run that a test may spoil, and a file that is not ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def foreign_onnx(tmp_path: Path) -> Path:
    """Somebody else's ONNX file: Q/DQ around an addition of constants."""
    scale = numpy_helper.from_array(np.array(0.1, np.float32), "scale")
    zero = numpy_helper.from_array(np.array(0, np.int8), "zero")
    weight = numpy_helper.from_array(np.ones((3, 5), np.float32), "weight")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("MatMul", ["d", "weight"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [scale, zero, weight],
    )
    model = helper.make_model(
        graph, producer_name="somebody", producer_version="7", opset_imports=[helper.make_opsetid("", 19)]
    )
    path = tmp_path / "theirs.onnx"
    onnx.save(model, path)
    return path
