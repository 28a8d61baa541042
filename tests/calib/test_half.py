"""fp16 files of networks whose numbers do not fit into fp16: what stays in fp32, and what a GPU answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from torch import Tensor, nn

import imf_deploy
from imf_deploy.calib.half import fit_half
from imf_deploy.calib.half_file import to_fp16
from imf_deploy.calib.model import open_float_model
from imf_deploy.calib.score import content_logits, file_logits
from imf_deploy.data import DataSet
from imf_deploy.errors import GateError
from imf_deploy.export.half import to_half
from imf_deploy.export.half_arithmetic import emulate_half
from imf_deploy.export.half_fit import find_kept
from imf_deploy.export.tensorrt_writer import check_readable
from imf_deploy.records.files import OnnxFile
from imf_deploy.settings import HalfSettings, QuantizeSettings
from imf_deploy.verification.origin import check_record

Make = Callable[..., Path]
CONFIG = HalfSettings(images=60)
LAYERS = ("node_conv2d", "node_conv2d_1", "node_conv2d_2", "node_linear")


def scale(factor: float) -> Callable[[Any], None]:
    """Multiply what passes between the first layers, which ReLU lets through; the answers stay."""

    def change(net: Any) -> None:
        for value in (net.first.weight, net.first.bias, net.second.bias):
            value.mul_(factor)
        net.third.weight /= factor

    return change


def shrink(net: Any) -> None:
    """Make all but one channel so small that they are zero in fp16; the layer that reads them compensates."""
    net.third.weight[1:] *= 1e-8
    net.third.bias[1:] *= 1e-8
    net.head.weight[:, 1:] /= 1e-8


def kept(made: OnnxFile) -> dict[str, str]:
    assert made.half is not None
    return {node.node: node.reason for node in made.half.kept}


def on_a_gpu(made: Path, many: DataSet, source: Path) -> Any:
    """Return the logits of an fp16 file with every value rounded."""
    half = emulate_half(onnx.load(made))
    return content_logits(half.SerializeToString(), open_float_model(source), many.test)


def check_answers(made: OnnxFile, source: Path, many: DataSet) -> None:
    """Check a file as a CPU and as a GPU runs it."""
    check_record(made)
    model = open_float_model(source)
    expected = file_logits(source, model, many.test)
    for logits in (file_logits(made.path, model, many.test), on_a_gpu(made.path, many, source)):
        np.testing.assert_allclose(logits, expected, atol=2e-2 * abs(expected).max())


def test_all_nodes_of_a_usual_network_are_fp16(whole: Path, many: DataSet, tmp_path: Path) -> None:
    made = to_fp16(whole, many, CONFIG, tmp_path)
    assert made.half is not None
    assert (kept(made), made.half.casts, made.half.images) == ({}, 2, 60)
    assert made.half.validation is not None
    assert made.half.validation.images == len(many.validation)
    assert made.half.validation.agreement > 0.95
    check_answers(made, whole, many)
    assert to_fp16(whole, many, CONFIG, tmp_path) == made


@pytest.mark.parametrize("factor", [1e6, 1e-8])
def test_a_region_stays_in_fp32(factor: float, make_file: Make, many: DataSet, tmp_path: Path) -> None:
    source = make_file(f"scaled {factor}", scale(factor))
    by_weights = {node.node for node in find_kept(onnx.load(source))}
    onnx.save(to_half(onnx.load(source), by_weights), tmp_path / "naive.onnx")
    expected = file_logits(source, open_float_model(source), many.test)
    answers = on_a_gpu(tmp_path / "naive.onnx", many, source)
    assert not np.allclose(answers, expected, atol=0.1 * abs(expected).max())
    made = to_fp16(source, many, CONFIG, tmp_path)
    found = kept(made)
    assert set(LAYERS[:3]) <= found.keys()
    assert LAYERS[3] not in found
    assert all("reach" in reason or "rounding" in reason for reason in found.values())
    # One region, which begins at the float32 input: a Cast behind it, and one to the float32 output.
    assert made.operators["Cast"] == made.half.casts == 2  # type: ignore[union-attr]
    assert made.precision == "fp16"
    check_answers(made, source, many)
    if find_spec("tensorrt_rtx"):
        check_readable(made.path, "rtx")


def test_layers_that_miss_the_gate_stay_in_fp32(make_file: Make, many: DataSet, tmp_path: Path) -> None:
    source = make_file("shrunk", shrink)
    made = to_fp16(source, many, CONFIG, tmp_path)
    assert made.half is not None
    assert made.half.validation is not None
    assert made.half.tries[0]["agreement"] < 0.9 < made.half.validation.agreement
    assert kept(made)["node_conv2d_2"] == "fp16 loses too many answers"
    check_answers(made, source, many)
    none = QuantizeSettings(images=60, max_float_layers=0)
    with pytest.raises(GateError, match=r"fp16 is declined.*Deploy fp32"):
        fit_half(open_float_model(source), many, none, tmp_path)


class Wide(nn.Module):
    """Weights that fit, and activations that do not."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.student(images * 3e4 * 3e4 / 3e4 / 3e4)
        return logits


def test_overflow_that_a_cpu_does_not_show(
    trained: dict[str, Tensor], many: DataSet, tmp_path: Path, make_net: Callable[[], nn.Module]
) -> None:
    net = Wide(make_net()).eval()
    named: dict[str, Any] = {"precision": "fp16", "preprocess": many.preprocess}
    blind = imf_deploy.export_onnx(net, tmp_path / "blind.onnx", **named)
    assert blind.half is None
    checked = imf_deploy.verify(blind, against=net, data=many.test)
    assert checked.verify is not None
    assert checked.verify.status == "fail"
    assert "some logits are not finite" in (checked.verify.reason or "")
    assert "fp16 arithmetic" in (checked.verify.reason or "")
    fitted = imf_deploy.export_onnx(
        net, tmp_path / "fitted.onnx", **named, calibration=many.train, validation=many.validation
    )
    assert [node.op_type for node in fitted.half.kept] == ["Mul", "Mul", "Div", "Div"]  # type: ignore[union-attr]
    assert imf_deploy.verify(fitted, against=net, data=many.test).verify.status == "pass"  # type: ignore[union-attr]


def test_a_file_of_another_tool(foreign: Path, make_file: Make, many: DataSet, tmp_path: Path) -> None:
    proto = onnx.load(make_file("scaled 1000000.0", scale(1e6)))
    del proto.metadata_props[:]
    for node in proto.graph.node:
        node.name = ""
    onnx.save(proto, foreign)
    (tmp_path / "preprocess.json").write_text(json.dumps(asdict(many.preprocess)))
    config = HalfSettings(images=60)
    made = to_fp16(foreign, many, config, tmp_path, tmp_path / "preprocess.json")
    assert len(kept(made)) >= 5
    assert made.operators["Cast"] == 2
    check_record(made)
