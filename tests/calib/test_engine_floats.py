"""Whether an engine computes in fp16 where its INT8 file is not quantised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
from onnx import TensorProto

from imf_deploy.calib.engine_floats import choose_floats
from imf_deploy.calib.model import FloatModel
from imf_deploy.calib.ranges import Ranges
from imf_deploy.calib.stage import calibrate
from imf_deploy.data import DataSet
from imf_deploy.errors import ImfDeployError
from imf_deploy.export.engine_form import engine_source
from imf_deploy.settings import QuantizeSettings


def anything(path: Path) -> None:
    """Read every file, as a TensorRT that takes fp16 scales does."""
    assert path.is_file()


def test_fp16_where_the_answers_stay(model: FloatModel, ranges: Ranges, many: DataSet) -> None:
    assert choose_floats(model, ranges, many.train, anything) == "fp16"


def test_fp32_where_activations_are_too_large(model: FloatModel, ranges: Ranges, many: DataSet) -> None:
    last = list(ranges)[-1]
    assert choose_floats(model, ranges | {last: (-4e4, 0.0)}, many.train, anything) == "fp32"


def test_fp32_where_the_opset_cannot_be_raised(model: FloatModel, ranges: Ranges, many: DataSet) -> None:
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    proto.graph.node[-1].op_type = "Unknown"
    assert choose_floats(replace(model, proto=proto), ranges, many.train, anything) == "fp32"


def test_fp32_where_tensorrt_takes_no_fp16(model: FloatModel, ranges: Ranges, many: DataSet) -> None:
    asked: list[set[int]] = []

    def refuses(path: Path) -> None:
        asked.append({tensor.data_type for tensor in onnx.load(path).graph.initializer})
        raise ImfDeployError("TensorRT cannot read it")

    assert choose_floats(model, ranges, many.train, refuses) == "fp32"
    (kinds,) = asked
    assert TensorProto.FLOAT16 in kinds
    assert TensorProto.FLOAT not in kinds


def test_the_file_keeps_the_choice(whole: Path, many: DataSet, tmp_path: Path) -> None:
    config = QuantizeSettings(target="tensorrt", images=60, rank=False, keep_int8=True)
    made = calibrate(whole, many, config, tmp_path)
    assert made.calibration.engine_floats == "fp16"
    assert engine_source(made.path) is not None
    cpu = calibrate(whole, many, replace(config, target="onnxruntime-cpu"), tmp_path)
    assert cpu.calibration.engine_floats is None
    assert engine_source(cpu.path) is None
