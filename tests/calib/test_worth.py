from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.artifact import load_artifact
from imf_deploy.calib.slow_layers import slow_layers
from imf_deploy.calib.stage import calibrate
from imf_deploy.calib.worth import decide
from imf_deploy.compat import cpu_model, usable_cpus
from imf_deploy.data import DataSet
from imf_deploy.errors import GateError, ImfDeployError
from imf_deploy.records.files import OnnxFile
from imf_deploy.records.making import Speed
from imf_deploy.settings import Gate, QuantizeSettings

CONFIG = QuantizeSettings(images=60, gate=Gate(100, 0), rank=False)
SPEED = Speed("Processor", ["avx2"], 2, "net-fp32.onnx", 0.5, 0.45, 0.55)


@pytest.mark.parametrize(
    ("ratio", "low", "high", "kept"),
    [
        (0.5, 0.45, 0.55, True),
        (0.97, 0.96, 0.99, True),
        (0.98, 0.975, 0.985, False),  # faster, but hardly
        (0.9, 0.7, 1.0, False),  # may be as slow
        (1.0, 0.99, 1.01, False),
        (3.2, 3.1, 3.3, False),
    ],
)
def test_a_file_has_to_be_faster(ratio: float, low: float, high: float, kept: bool) -> None:
    speed = replace(SPEED, ratio=ratio, low=low, high=high)
    if kept:
        return decide("net", speed)
    with pytest.raises(GateError) as caught:
        decide("net", speed)
    assert f"{ratio:.2f} times as long as net-fp32.onnx" in caught.value.what
    assert "Processor, 2 threads" in caught.value.what
    assert "`keep_int8`" in caught.value.hint
    return None


def test_the_decision_is_kept_with_the_file(whole: Path, many: DataSet, tmp_path: Path) -> None:
    """What this machine measures is chance, so what it stored is replaced by both answers."""
    with contextlib.suppress(GateError):
        calibrate(whole, many, CONFIG, tmp_path)
    (stored,) = (tmp_path / "calib").glob("speed-*.json")
    measured = json.loads(stored.read_text())
    assert (measured["processor"], measured["threads"]) == (cpu_model(), usable_cpus())
    assert measured["other"] == whole.name
    assert 0 < measured["low"] <= measured["ratio"] <= measured["high"]

    file = tmp_path / "net-plain-int8.onnx"
    file.unlink(missing_ok=True)
    slow = measured | {"ratio": 1.2, "low": 1.1, "high": 1.3}
    stored.write_text(json.dumps(slow))
    with pytest.raises(GateError, match=r"INT8 is declined for net-plain-fp32.onnx.* 1\.20 times as long"):
        calibrate(whole, many, CONFIG, tmp_path)
    assert not file.exists()
    stored.write_text(json.dumps(measured | {"ratio": 0.5, "low": 0.4, "high": 0.6}))
    made = calibrate(whole, many, CONFIG, tmp_path)
    about = load_artifact(made.path, OnnxFile).calibration
    assert about is not None
    assert about.speed is not None
    assert (about.speed.ratio, about.speed_unknown) == (0.5, "")
    # The file itself is the decision from now on, on any machine.
    stored.write_text(json.dumps(slow))
    assert calibrate(whole, many, CONFIG, tmp_path) == made
    stored.write_text("{}")
    made.path.unlink()
    with pytest.raises(ImfDeployError, match=r"speed-.*\.json is damaged"):
        calibrate(whole, many, CONFIG, tmp_path)


def test_a_file_that_is_kept_anyway_is_not_timed(whole: Path, many: DataSet, tmp_path: Path) -> None:
    about = calibrate(whole, many, replace(CONFIG, keep_int8=True), tmp_path).calibration
    assert about is not None
    assert (about.speed, "keep_int8" in about.speed_unknown) == (None, True)
    assert not list((tmp_path / "calib").glob("speed-*"))


def test_speed_is_unknown_where_no_gpu_runs_the_engine(whole: Path, many: DataSet, tmp_path: Path) -> None:
    about = calibrate(whole, many, replace(CONFIG, target="tensorrt"), tmp_path).calibration
    assert about is not None
    assert about.speed is None
    assert "GPU" in about.speed_unknown


def test_layers_that_are_slow_in_int8_return_to_float(many: DataSet) -> None:
    """The network takes a hundred times as long unless the layer ``slow`` is in float."""
    size = many.preprocess.size
    weight = numpy_helper.from_array(np.zeros((3, 3, 3, 3), np.float32), "weight")

    def build(floats: tuple[str, ...]) -> bytes:
        count = 1 if "slow" in floats else 200 if "fast" in floats else 100
        nodes = [
            helper.make_node("Conv", [f"t{i}", "weight"], [f"t{i + 1}"], pads=[1, 1, 1, 1])
            for i in range(count)
        ]
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, size, size])
            for name in ("t0", f"t{count}")
        ]
        graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weight])
        opset = [helper.make_opsetid("", 17)]
        made: bytes = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
        return made

    assert slow_layers(build, ["fast", "slow"], many.preprocess) == ("slow",)
    assert slow_layers(build, ["fast"], many.preprocess) == ()
