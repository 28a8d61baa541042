"""A finished run of a tiny student, made once, and a copy that a test may spoil."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.data import DataConfig
from imf_deploy.pipeline import RunConfig, distill_and_export
from imf_deploy.train.config import TrainConfig
from imf_deploy.train.distill import DistillConfig

TINY = TrainConfig(epochs=1, batch_size=8, lr=0.02, device="cpu")


@pytest.fixture(scope="session")
def finished_run(image_folder: Path, teacher_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The main job on tiny data: one product, fp32 and fp16, no engines. Not to be changed."""
    config = RunConfig(
        data=DataConfig(str(image_folder)),
        teacher_weights=str(teacher_file),
        distill=DistillConfig("resnet8", train=TINY),
        products="imf@1",
        precisions="fp32,fp16",
        trt="off",
    )
    folder = tmp_path_factory.mktemp("finished") / "run"
    distill_and_export(config, folder, "imf-deploy distill-and-export", bench_seconds=0)
    return folder


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


def edit_json(path: Path, **changes: object) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
