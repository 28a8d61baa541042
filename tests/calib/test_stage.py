from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from imf_deploy.artifact import Artifact, load_artifact, sidecar_path
from imf_deploy.calib import stage
from imf_deploy.calib.config import TARGETS, CalibrationConfig, Target
from imf_deploy.calib.images import choose_images, hash_images
from imf_deploy.calib.stage import calibrate
from imf_deploy.data import DataSet
from imf_deploy.errors import GateError, ImfDeployError, UsageError
from imf_deploy.export.onnx_file import describe_onnx
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner

CONFIG = CalibrationConfig(images=60, sensitivity_images=60)
NAMES = {"onnxruntime-cpu": "net-plain-int8.onnx", "tensorrt": "net-plain-int8-trt.onnx"}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


@pytest.fixture(scope="module")
def made(whole: Path, many: DataSet, tmp_path_factory: pytest.TempPathFactory) -> dict[Target, Artifact]:
    """The trained network for both targets, in one folder."""
    folder = tmp_path_factory.mktemp("made")
    return {target: calibrate(whole, many, replace(CONFIG, target=target), folder) for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS)
def test_file_and_record(made: dict[Target, Artifact], whole: Path, many: DataSet, target: Target) -> None:
    artifact = load_artifact(made[target].path)
    source = load_artifact(whole)
    assert artifact.path.name == NAMES[target]
    assert (artifact.kind, artifact.format, artifact.precision) == ("onnx", "onnx", "int8")
    assert artifact.parent == source.sha256
    assert artifact.preprocess == many.preprocess
    assert artifact.product == "plain"
    assert artifact.evidence["source"] == source.evidence["source"]
    assert artifact.evidence["gate"] == {"max_accuracy_drop": 1.0, "min_agreement": 0.97}
    about = artifact.evidence["calibration"]
    images = choose_images(many.train, 60, 0)
    assert (about["images"], about["images_sha256"]) == (60, hash_images(images))
    assert (about["target"], about["method"], about["seed"]) == (target, "minmax", 0)
    assert (about["layers"], about["float_layers"]) == (4, [])
    assert len(about["sensitivity"]) == 4
    order = [harm["divergence"] for harm in about["sensitivity"]]
    assert order == sorted(order, reverse=True)
    assert about["validation"]["images"] == len(many.validation)
    if target == "onnxruntime-cpu":
        assert about["session_integer_layers"] == 4
    info = describe_onnx(artifact.path)
    assert info.precision == "int8"
    assert json.loads(info.metadata["quantization"])["images_sha256"] == about["images_sha256"]
    assert info.metadata.items() >= (describe_onnx(whole).metadata | {"precision": "int8"}).items()
    onnx.checker.check_model(onnx.load(artifact.path), full_check=True)


def test_the_scores_are_those_of_the_written_file(made: dict[Target, Artifact], many: DataSet) -> None:
    for artifact in made.values():
        pixels = many.preprocess.normalize(many.validation.fetch(torch.arange(len(many.validation))))
        with OnnxRuntimeRunner(artifact.path) as runner:
            chosen = runner.infer(np.ascontiguousarray(pixels.numpy())).argmax(1)
        right = float((chosen == many.validation.labels.numpy()).mean())
        assert artifact.evidence["calibration"]["validation"]["accuracy"] == pytest.approx(right)


def forbidden(*_: object) -> Any:
    raise AssertionError("this was not to be done again")


def test_both_targets_share_one_measurement(
    made: dict[Target, Artifact], whole: Path, many: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made["tensorrt"].path.parent
    assert len(list((folder / "calib").iterdir())) == 1
    monkeypatch.setattr(stage, "measure_ranges", forbidden)
    for target in TARGETS:
        # Another gate makes another file, from the same ranges.
        config = replace(CONFIG, target=target, min_agreement=0.5)
        assert calibrate(whole, many, config, folder).evidence["gate"]["min_agreement"] == 0.5


def test_the_same_again_is_taken_as_it_is(
    whole: Path, many: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = calibrate(whole, many, CONFIG, tmp_path)
    written = first.path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(stage, "quantize", forbidden)
        assert calibrate(whole, many, CONFIG, tmp_path) == first
    first.path.write_bytes(b"damaged")
    assert calibrate(whole, many, CONFIG, tmp_path).sha256 == first.sha256
    assert first.path.read_bytes() == written


@pytest.mark.parametrize(("target", "count"), [("onnxruntime-cpu", 2), ("tensorrt", 1)])
def test_repair_puts_the_planted_layer_back(
    planted: Path, many: DataSet, tmp_path: Path, target: Target, count: int
) -> None:
    artifact = calibrate(planted, many, replace(CONFIG, target=target), tmp_path)
    about = artifact.evidence["calibration"]
    third = [node.name for node in onnx.load(planted).graph.node if node.op_type == "Conv"][2]
    assert len(about["float_layers"]) == count
    assert third in about["float_layers"]
    assert about["tries"][0]["agreement"] < 0.9
    assert about["validation"]["agreement"] >= 0.97
    if target == "onnxruntime-cpu":
        assert about["session_integer_layers"] == 4 - count
    # Without the user's doing anything, the float layers are float.
    by_name = {node.name: node for node in onnx.load(artifact.path).graph.node}
    weights = {tensor.name: tensor for tensor in onnx.load(artifact.path).graph.initializer}
    for name in about["float_layers"]:
        assert weights[by_name[name].input[1]].data_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("target", TARGETS)
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
    with pytest.raises(GateError):
        calibrate(planted, many, replace(CONFIG, max_float_layers=0.0), tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


# Bad input.


def refused(path: Path, data: DataSet, folder: Path, match: str, **options: Any) -> ImfDeployError:
    """Check the message, and that nothing was written."""
    before = files(folder)
    config = options.pop("config", CONFIG)
    with pytest.raises(ImfDeployError, match=match) as caught:
        calibrate(path, data, config, folder, **options)
    assert files(folder) == before
    return caught.value


def test_fewer_images_than_asked_for(whole: Path, many: DataSet, tmp_path: Path) -> None:
    error = refused(whole, many, tmp_path, "there are 120 training images", config=CalibrationConfig())
    assert "--images 120" in str(error)
    assert isinstance(error, UsageError)


def test_quantised_already(made: dict[Target, Artifact], many: DataSet, tmp_path: Path) -> None:
    for artifact in made.values():
        error = refused(artifact.path, many, tmp_path, "is quantised already")
        assert isinstance(error, UsageError)


def test_fp16(trained: dict[str, torch.Tensor], many: DataSet, tmp_path: Path, whole: Path) -> None:
    from imf_deploy.export.half import to_half

    half = to_half(onnx.load(whole))
    (tmp_path / "in").mkdir()
    onnx.save(half, tmp_path / "in" / "half.onnx")
    refused(tmp_path / "in" / "half.onnx", many, tmp_path / "out", "is fp16")


@pytest.fixture
def foreign(whole: Path, tmp_path: Path) -> Path:
    """The same network without a sidecar and without metadata."""
    proto = onnx.load(whole)
    del proto.metadata_props[:]
    (tmp_path / "theirs").mkdir()
    onnx.save(proto, tmp_path / "theirs" / "their.onnx")
    return tmp_path / "theirs" / "their.onnx"


def test_foreign_model(foreign: Path, many: DataSet, tmp_path: Path) -> None:
    error = refused(foreign, many, tmp_path / "out", "does not say how pictures become its input")
    assert "--preprocess" in str(error)
    record = tmp_path / "preprocess.json"
    record.write_text(json.dumps(many.preprocess.to_dict()))
    artifact = calibrate(foreign, many, CONFIG, tmp_path / "out", preprocess=record)
    assert artifact.path.name == "their-int8.onnx"
    assert artifact.preprocess == many.preprocess


def test_preprocessing_in_the_metadata_is_enough(whole: Path, many: DataSet, tmp_path: Path) -> None:
    (tmp_path / "a-fp32.onnx").write_bytes(whole.read_bytes())
    artifact = calibrate(tmp_path / "a-fp32.onnx", many, CONFIG, tmp_path)
    assert artifact.path.name == "a-int8.onnx"
    assert artifact.product == "plain"


def test_bad_preprocess_files(foreign: Path, whole: Path, many: DataSet, tmp_path: Path) -> None:
    record = tmp_path / "preprocess.json"
    out = tmp_path / "out"
    refused(foreign, many, out, "cannot read", preprocess=record)
    record.write_text("{}")
    refused(foreign, many, out, "preprocessing record is damaged", preprocess=record)
    other = many.preprocess.to_dict() | {"mean": [0.0, 0.0, 0.0]}
    record.write_text(json.dumps(other))
    refused(whole, many, out, "contradicts the record", preprocess=record)
    record.write_text(json.dumps(other | {"size": 32, "resize_to": 32}))
    refused(foreign, many, out, "pictures become", preprocess=record)


def test_other_data(whole: Path, many: DataSet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    labels = replace(many, preprocess=replace(many.preprocess, labels=("a", "b", "c")))
    refused(whole, labels, out, r"other preprocessing .*labels")
    grey = replace(many, preprocess=replace(many.preprocess, color="L"))
    refused(whole, grey, out, r"other preprocessing .*color")
    nothing = replace(many, validation=many.validation.subset(torch.arange(0)))
    refused(whole, nothing, out, "no validation images")


def damaged_node(whole: Path, path: Path, domain: str, op_type: str) -> Path:
    """Write the network with another operator behind its logits."""
    proto = onnx.load(whole)
    last = proto.graph.node[-1]
    last.output[0] = "inner"
    nodes = [
        onnx.helper.make_node("Reshape", ["inner", "to_matrix"], ["matrix"], name="to_matrix_node"),
        onnx.helper.make_node(op_type, ["matrix"], ["number"], name="strange", domain=domain),
        onnx.helper.make_node("Reshape", ["number", "to_column"], ["column"], name="to_column_node"),
        onnx.helper.make_node("Add", ["inner", "column"], ["logits"], name="last"),
    ]
    proto.graph.node.extend(nodes)
    for name, shape in (("to_matrix", [-1, 1, 1]), ("to_column", [-1, 1])):
        if name == "to_matrix":
            nodes[0].input[0] = "first"
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(shape), name))
    # One logit of every image, so that the batch stays free.
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "zero"))
    gather = onnx.helper.make_node("Gather", ["inner", "zero"], ["first"], axis=1, name="gather")
    position = len(proto.graph.node) - 4
    proto.graph.node[position].input[0] = "first"
    proto.graph.node.insert(position, gather)
    if domain:
        proto.opset_import.add(domain=domain, version=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, path)
    return path


def test_an_operator_that_onnxruntime_refuses(whole: Path, many: DataSet, tmp_path: Path) -> None:
    path = damaged_node(whole, tmp_path / "in" / "net.onnx", "their.own", "Frobnicate")
    refused(path, many, tmp_path / "out", "Frobnicate")


def test_an_operator_that_tensorrt_refuses(whole: Path, many: DataSet, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 alone")
    path = damaged_node(whole, tmp_path / "in" / "net.onnx", "", "Det")
    refused(path, many, tmp_path / "out", "Det.*strange", config=replace(CONFIG, target="tensorrt"))
    assert calibrate(path, many, CONFIG, tmp_path / "out").precision == "int8"


def test_nothing_to_quantise(many: DataSet, whole: Path, tmp_path: Path) -> None:
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)],
            "g",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 16, 16])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.helper.set_model_props(proto, describe_onnx(whole).metadata)
    onnx.save(proto, tmp_path / "mean.onnx")
    refused(tmp_path / "mean.onnx", many, tmp_path / "out", "no operator to quantise")


@pytest.mark.parametrize(
    "change",
    [
        {"target": "openvino"},
        {"method": "guess"},
        {"images": 0},
        {"max_accuracy_drop": -1.0},
        {"max_accuracy_drop": float("nan")},
        {"min_agreement": 97.0},
        {"min_agreement": float("nan")},
        {"max_float_layers": 1.0},
    ],
)
def test_values_that_mean_nothing(whole: Path, many: DataSet, tmp_path: Path, change: dict[str, Any]) -> None:
    error = refused(whole, many, tmp_path / "out", ".", config=replace(CONFIG, **change))
    assert isinstance(error, UsageError)


def test_damaged_files(whole: Path, many: DataSet, tmp_path: Path) -> None:
    path = tmp_path / "in" / "net.onnx"
    path.parent.mkdir()
    refused(path, many, tmp_path / "out", "there is no file")
    path.write_bytes(whole.read_bytes()[:1000])
    refused(path, many, tmp_path / "out", "damaged or no ONNX")
    path.write_bytes(whole.read_bytes())
    sidecar_path(path).write_bytes(sidecar_path(whole).read_bytes().replace(b'"sha256": "', b'"sha256": "0'))
    refused(path, many, tmp_path / "out", "was changed after its sidecar")


def test_caches(
    whole: Path, planted: Path, many: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "ranges.json"
    out = tmp_path / "out"
    first = calibrate(whole, many, CONFIG, out, cache=cache)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "measure_ranges", forbidden)
        second = calibrate(whole, many, CONFIG, tmp_path / "again", cache=cache)
    assert second.sha256 == first.sha256
    content = cache.read_bytes()
    error = refused(planted, many, out, "belongs to another model", cache=cache)
    assert isinstance(error, UsageError)
    assert "--cache" in str(error)
    refused(whole, many, out, "belongs to other images", cache=cache, config=replace(CONFIG, seed=1))
    refused(whole, many, out, "belongs to another method", cache=cache, config=replace(CONFIG, method="mse"))
    assert cache.read_bytes() == content
    again = replace(CONFIG, min_agreement=0.9)
    for bad in (
        b"{", b"[]", b"{}",
        content.replace(b'"schema": 1', b'"schema": 99'),
        content.replace(b'"ranges": {', b'"ranges": {"x": [1, 2], '),
        content.replace(b'"ranges": {', b'"ranges": {"x": 1, '),
    ):  # fmt: skip
        cache.write_bytes(bad)
        refused(whole, many, out, "JSON|calibration cache", cache=cache, config=again)


def test_the_model_itself_is_never_replaced(whole: Path, many: DataSet, tmp_path: Path) -> None:
    path = tmp_path / "net-plain-int8.onnx"
    path.write_bytes(whole.read_bytes())
    made = calibrate(path, many, CONFIG, tmp_path)
    assert made.path.name == "net-plain-int8-int8.onnx"
    assert path.read_bytes() == whole.read_bytes()


# The command.


def test_command(whole: Path, many: DataSet, tmp_path: Path, cli: Callable[..., Any]) -> None:
    done = cli("calibrate", whole, "--images", 60, "--method", "mse", "--output", tmp_path)
    assert done.code == 0, done.err
    assert "net-plain-int8.onnx: " in done.err
    assert "0 of 4 layers in float" in done.err
    assert load_artifact(tmp_path / "net-plain-int8.onnx").evidence["calibration"]["method"] == "mse"


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
    record.write_text(json.dumps(many.preprocess.to_dict()))
    done = cli("calibrate", foreign, "--preprocess", record)
    assert done.code == 2
    assert "--data" in done.err
    done = cli("calibrate", foreign, "--preprocess", record, "--data", many.config["data"], "--images", 60)
    assert done.code == 0, done.err
    assert foreign.with_name("their-int8.onnx").is_file()
