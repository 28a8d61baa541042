from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import torch

from imf_deploy.artifact import load_artifact
from imf_deploy.calib import stage
from imf_deploy.calib.stage import calibrate
from imf_deploy.data import DataSet, open_data
from imf_deploy.data.choice import choose_images, hash_images
from imf_deploy.errors import GateError, UsageError
from imf_deploy.export.onnx_file import describe_onnx
from imf_deploy.records.files import Artifact
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.settings import DataSettings, Gate, QuantizeSettings
from imf_deploy.settings.quantize import Target

CONFIG = QuantizeSettings(images=60, sensitivity_images=60, keep_int8=True)
NAMES = {"onnxruntime-cpu": "net-plain-int8.onnx", "tensorrt": "net-plain-int8-trt.onnx"}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


@pytest.fixture(scope="module")
def made(whole: Path, many: DataSet, tmp_path_factory: pytest.TempPathFactory) -> dict[Target, Artifact]:
    """The trained network for both targets, in one folder."""
    folder = tmp_path_factory.mktemp("made")
    return {
        target: calibrate(whole, many, replace(CONFIG, target=target), folder) for target in get_args(Target)
    }


@pytest.mark.parametrize("target", get_args(Target))
def test_file_and_record(made: dict[Target, Artifact], whole: Path, many: DataSet, target: Target) -> None:
    artifact = load_artifact(made[target].path)
    source = load_artifact(whole)
    assert artifact.path.name == NAMES[target]
    assert (artifact.kind, artifact.format, artifact.precision) == ("onnx", "onnx", "int8")
    assert artifact.parent == source.sha256
    assert artifact.preprocess == many.preprocess
    assert artifact.product == "plain"
    assert artifact.source == source.source
    assert artifact.gate == Gate(1.0, 0.97)
    about = artifact.calibration
    images = choose_images(many.train, 60, 0)
    assert (about.images, about.images_sha256) == (60, hash_images(images))
    assert (about.target, about.method, about.seed) == (target, "minmax", 0)
    assert (about.layers, about.float_layers) == (4, [])
    assert len(about.sensitivity) == 4
    order = [harm.divergence for harm in about.sensitivity]
    assert order == sorted(order, reverse=True)
    assert about.validation.images == len(many.validation)
    if target == "onnxruntime-cpu":
        assert about.session_integer_layers == 4
    info = describe_onnx(artifact.path)
    assert info.precision == "int8"
    assert json.loads(info.metadata["quantization"])["images_sha256"] == about.images_sha256
    assert info.metadata.items() >= (describe_onnx(whole).metadata | {"precision": "int8"}).items()
    onnx.checker.check_model(onnx.load(artifact.path), full_check=True)


def test_the_scores_are_those_of_the_written_file(made: dict[Target, Artifact], many: DataSet) -> None:
    for artifact in made.values():
        pixels = many.preprocess.normalize(many.validation.fetch(torch.arange(len(many.validation))))
        with OnnxRuntimeRunner(artifact.path) as runner:
            chosen = runner.infer(np.ascontiguousarray(pixels.numpy())).argmax(1)
        right = float((chosen == many.validation.labels.numpy()).mean())
        assert artifact.calibration.validation.accuracy == pytest.approx(right)


def forbidden(*_: object) -> Any:
    raise AssertionError("this was not to be done again")


def test_both_targets_share_one_measurement(
    made: dict[Target, Artifact], whole: Path, many: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made["tensorrt"].path.parent
    assert len(list((folder / "calib").iterdir())) == 1
    monkeypatch.setattr(stage, "measure_ranges", forbidden)
    for target in get_args(Target):
        # Another gate makes another file, from the same ranges.
        config = replace(CONFIG, target=target, gate=Gate(1.0, 0.5))
        made_anew = calibrate(whole, many, config, folder, overwrite=True)
        assert made_anew.gate.min_agreement == 0.5


def test_the_same_again_is_taken_as_it_is(
    whole: Path, many: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = calibrate(whole, many, CONFIG, tmp_path)
    written = first.path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(stage, "write", forbidden)
        assert calibrate(whole, many, CONFIG, tmp_path) == first
    first.path.write_bytes(b"damaged")
    assert calibrate(whole, many, CONFIG, tmp_path).sha256 == first.sha256
    assert first.path.read_bytes() == written


@pytest.mark.parametrize(("target", "count"), [("onnxruntime-cpu", 2), ("tensorrt", 1)])
def test_repair_puts_the_planted_layer_back(
    planted: Path, many: DataSet, tmp_path: Path, target: Target, count: int
) -> None:
    artifact = calibrate(planted, many, replace(CONFIG, target=target), tmp_path)
    about = artifact.calibration
    third = [node.name for node in onnx.load(planted).graph.node if node.op_type == "Conv"][2]
    assert len(about.float_layers) == count
    assert third in about.float_layers
    assert about.tries[0]["agreement"] < 0.9
    assert about.validation.agreement >= 0.97
    if target == "onnxruntime-cpu":
        assert about.session_integer_layers == 4 - count
    # Without the user's doing anything, the float layers are float.
    by_name = {node.name: node for node in onnx.load(artifact.path).graph.node}
    weights = {tensor.name: tensor for tensor in onnx.load(artifact.path).graph.initializer}
    for name in about.float_layers:
        assert weights[by_name[name].input[1]].data_type == onnx.TensorProto.FLOAT


def test_repair_puts_sums_back(wide_sums: Path, many: DataSet, tmp_path: Path) -> None:
    sums = [node.name for node in onnx.load(wide_sums).graph.node if node.op_type == "Add"]
    assert len(sums) == 2
    about = calibrate(wide_sums, many, CONFIG, tmp_path).calibration
    assert about.tries[0]["agreement"] < 0.9
    assert sorted(about.float_layers) == sorted(sums)
    assert (about.layers, about.session_integer_layers) == (6, 4)
    assert about.session_operators["Add"] == 2
    assert "QLinearAdd" not in about.session_operators
    assert {harm.op_type for harm in about.sensitivity[:2]} == {"Add"}
    assert about.validation.agreement >= 0.97


@pytest.mark.parametrize("target", get_args(Target))
def test_int8_is_declined(hopeless: Path, many: DataSet, tmp_path: Path, target: Target) -> None:
    config = replace(CONFIG, target=target)
    with pytest.raises(
        GateError, match=r"INT8 is declined .*net-plain-fp32.onnx on \w.*2 of 4 layers in float"
    ):
        calibrate(hopeless, many, config, tmp_path)
    assert [name for name in files(tmp_path) if not name.startswith("ranges-")] == []


def test_a_failed_attempt_leaves_the_old_file(planted: Path, many: DataSet, tmp_path: Path) -> None:
    first = calibrate(planted, many, CONFIG, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in (first.path.name, first.path.name + ".json")}
    other = replace(CONFIG, max_float_layers=0.0)
    with pytest.raises(UsageError, match="made with other settings"):
        calibrate(planted, many, other, tmp_path)
    with pytest.raises(GateError):
        calibrate(planted, many, other, tmp_path, overwrite=True)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


# The command.


def test_command(whole: Path, many: DataSet, tmp_path: Path, cli: Callable[..., Any]) -> None:
    done = cli("calibrate", whole, "--images", 60, "--method", "mse", "--keep-int8", "--output", tmp_path)
    assert done.code == 0, done.err
    assert "net-plain-int8.onnx: " in done.err
    assert "0 of 4 layers in float" in done.err
    assert load_artifact(tmp_path / "net-plain-int8.onnx").calibration.method == "mse"


def test_command_exits_with_3_at_the_gate(hopeless: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    done = cli("calibrate", hopeless, "--images", 60, "--target", "tensorrt", "--output", tmp_path)
    assert done.code == 3
    assert "error: INT8 is declined" in done.err
    assert not (tmp_path / "net-plain-int8-trt.onnx").exists()


def test_command_on_a_foreign_model(
    foreign: Path, many: DataSet, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    done = cli("calibrate", foreign)
    assert done.code == 2
    assert "--preprocess" in done.err
    record = tmp_path / "preprocess.json"
    record.write_text(json.dumps(asdict(many.preprocess)))
    done = cli("calibrate", foreign, "--preprocess", record)
    assert done.code == 2
    assert "--data" in done.err
    done = cli(
        "calibrate",
        foreign,
        "--preprocess",
        record,
        "--data",
        many.config["data"],
        "--images",
        60,
        "--keep-int8",
    )
    assert done.code == 0, done.err
    assert foreign.with_name("their-int8.onnx").is_file()


def test_command_with_the_embedded_data(tmp_path: Path, cli: Callable[..., Any]) -> None:
    random = np.random.default_rng(0)
    weights = {"w": random.normal(0, 1, (10, 3, 3, 3)), "b": random.normal(0, 1, 10)}
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "w", "b"], ["c"], strides=[4, 4]),
            onnx.helper.make_node("GlobalAveragePool", ["c"], ["d"]),
            onnx.helper.make_node("Flatten", ["d"], ["y"]),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 28, 28])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 10])],
        [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    path = tmp_path / "their.onnx"
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    record = tmp_path / "preprocess.json"
    record.write_text(json.dumps(asdict(open_data(DataSettings()).preprocess)))
    lenient = ["--max-accuracy-drop", 100, "--min-agreement", 0, "--images", 16, "--keep-int8"]
    done = cli("calibrate", path, "--preprocess", record, "--data", "fashion-mnist-subset", *lenient)
    assert done.code == 0, done.err
    assert path.with_name("their-int8.onnx").is_file()


def test_a_gate_on_another_metric_returns_layers_to_float(
    planted: Path, whole: Path, many: DataSet, tmp_path: Path
) -> None:
    """Classes are free, but the log-likelihood is not: the planted layer ruins it."""
    free = Gate(100.0, 0.0)
    loose = calibrate(planted, many, replace(CONFIG, gate=free), tmp_path / "loose").calibration
    assert not loose.float_layers
    harmed = loose.validation.metrics["nll"]
    assert harmed.loss > 0.01
    strict = replace(free, gate={"nll": harmed.loss / 2})
    repaired = calibrate(planted, many, replace(CONFIG, gate=strict), tmp_path / "strict").calibration
    assert 1 <= len(repaired.float_layers) < repaired.layers
    assert repaired.validation.metrics["nll"].loss <= harmed.loss / 2
    assert repaired.tries[0]["float_layers"] == 0
    assert repaired.tries[0]["nll"] == pytest.approx(harmed.value)


def test_int8_is_declined_by_a_gate_on_another_metric(hopeless: Path, many: DataSet, tmp_path: Path) -> None:
    gate = Gate(100.0, 0.0, gate={"nll": 0.0, "macro_f1": 100.0})
    with pytest.raises(
        GateError, match=r"declined .*negative log-likelihood rises by .* nats from .*, and 0 are"
    ):
        calibrate(hopeless, many, replace(CONFIG, gate=gate), tmp_path)
    assert not list(tmp_path.glob("*.onnx"))
