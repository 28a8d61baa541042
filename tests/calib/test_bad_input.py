from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import torch

from imf_deploy.calib import stage
from imf_deploy.calib.stage import calibrate
from imf_deploy.data import DataSet
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.export.onnx_file import describe_onnx
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import sidecar_path
from imf_deploy.settings import Gate, QuantizeSettings
from imf_deploy.settings.quantize import Target

CONFIG = QuantizeSettings(images=60, sensitivity_images=60, keep_int8=True)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def forbidden(*_: object) -> Any:
    raise AssertionError("this was not to be done again")


def refused(path: Path, data: DataSet, folder: Path, match: str, **options: Any) -> ImfDeployError:
    """Check the message, and that nothing was written."""
    before = files(folder)
    config = options.pop("config", CONFIG)
    with pytest.raises(ImfDeployError, match=match) as caught:
        calibrate(path, data, config, folder, **options)
    assert files(folder) == before
    return caught.value


def test_fewer_images_than_asked_for(whole: Path, many: DataSet, tmp_path: Path) -> None:
    error = refused(whole, many, tmp_path, "there are only 120 training images", config=QuantizeSettings())
    assert "`images` 120" in str(error)
    assert isinstance(error, UsageError)


@pytest.mark.parametrize("target", get_args(Target))
def test_quantised_already(whole: Path, many: DataSet, tmp_path: Path, target: Target) -> None:
    artifact = calibrate(whole, many, replace(CONFIG, target=target), tmp_path)
    error = refused(artifact.path, many, tmp_path, "is already quantised")
    assert isinstance(error, UsageError)


def test_fp16(trained: dict[str, torch.Tensor], many: DataSet, tmp_path: Path, whole: Path) -> None:
    from imf_deploy.export.half import to_half

    half = to_half(onnx.load(whole))
    (tmp_path / "in").mkdir()
    onnx.save(half, tmp_path / "in" / "half.onnx")
    refused(tmp_path / "in" / "half.onnx", many, tmp_path / "out", "is fp16")


def test_foreign_model(foreign: Path, many: DataSet, tmp_path: Path) -> None:
    error = refused(foreign, many, tmp_path / "out", "the preprocessing of")
    assert "`preprocess`" in str(error)
    record = tmp_path / "preprocess.json"
    record.write_text(json.dumps(asdict(many.preprocess)))
    artifact = calibrate(foreign, many, CONFIG, tmp_path / "out", preprocess=record)
    assert artifact.path.name == "their-int8.onnx"
    assert artifact.preprocess == many.preprocess
    # The file says it too, without its record.
    metadata = describe_onnx(artifact.path).metadata
    assert Preprocess.from_dict(json.loads(metadata["preprocess"])) == many.preprocess
    assert json.loads(metadata["labels"]) == list(many.preprocess.labels)


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
    other = asdict(many.preprocess) | {"mean": [0.0, 0.0, 0.0]}
    record.write_text(json.dumps(other))
    refused(whole, many, out, "contradicts the record", preprocess=record)
    record.write_text(json.dumps(other | {"size": 32, "resize_to": 32}))
    refused(foreign, many, out, "images are prepared as", preprocess=record)


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
        {"sensitivity_images": 0},
        {"gate": {"max_accuracy_drop": -1.0}},
        {"max_float_layers": 1.0},
    ],
)
def test_values_that_mean_nothing(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(CONFIG, **change)


def test_what_has_no_option_is_named_as_it_is() -> None:
    with pytest.raises(UsageError, match=r"^`sensitivity_images` 0 is out of range. Give at least 1"):
        replace(CONFIG, sensitivity_images=0)


def test_damaged_files(whole: Path, many: DataSet, tmp_path: Path) -> None:
    path = tmp_path / "in" / "net.onnx"
    path.parent.mkdir()
    refused(path, many, tmp_path / "out", "there is no file")
    path.write_bytes(whole.read_bytes()[:1000])
    refused(path, many, tmp_path / "out", "damaged or not an ONNX")
    path.write_bytes(whole.read_bytes())
    sidecar_path(path).write_bytes(sidecar_path(whole).read_bytes().replace(b'"sha256": "', b'"sha256": "0'))
    refused(path, many, tmp_path / "out", "was changed after its sidecar")


def test_caches(
    whole: Path, planted: Path, many: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "ranges.json"
    out, other = tmp_path / "out", tmp_path / "other"
    first = calibrate(whole, many, CONFIG, out, ranges_file=cache)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "measure_ranges", forbidden)
        second = calibrate(whole, many, CONFIG, tmp_path / "again", ranges_file=cache)
    assert second.sha256 == first.sha256
    content = cache.read_bytes()
    error = refused(planted, many, other, "belongs to another model", ranges_file=cache)
    assert isinstance(error, UsageError)
    assert "`cache`" in str(error)
    refused(whole, many, other, "belongs to other images", ranges_file=cache, config=replace(CONFIG, seed=1))
    refused(
        whole,
        many,
        other,
        "belongs to another method",
        ranges_file=cache,
        config=replace(CONFIG, method="mse"),
    )
    assert cache.read_bytes() == content
    again = replace(CONFIG, gate=Gate(1.0, 0.9))
    for bad in (
        b"{", b"[]", b"{}",
        content.replace(b'"schema": 2', b'"schema": 99'),
        content.replace(b'"ranges": {', b'"ranges": {"x": [1, 2], '),
        content.replace(b'"ranges": {', b'"ranges": {"x": 1, '),
    ):  # fmt: skip
        cache.write_bytes(bad)
        refused(whole, many, other, "JSON|calibration cache", ranges_file=cache, config=again)


def test_ranges_belong_to_a_preprocessing(foreign: Path, many: DataSet, tmp_path: Path) -> None:
    records = []
    for name, mean in (("first", 0.0), ("second", 0.4)):
        record = asdict(many.preprocess) | {"mean": [mean] * 3}
        records.append(tmp_path / f"{name}.json")
        records[-1].write_text(json.dumps(record))
    gate = replace(CONFIG, gate=Gate(100.0, 0.0))
    out = tmp_path / "out"
    calibrate(foreign, many, gate, out, preprocess=records[0])
    found = calibrate(foreign, many, gate, out, preprocess=records[1], overwrite=True)
    want = calibrate(foreign, many, gate, tmp_path / "fresh", preprocess=records[1])
    assert found.sha256 == want.sha256
    cache = next((tmp_path / "fresh" / "calib").iterdir())
    refused(
        foreign,
        many,
        tmp_path / "other",
        "belongs to other preprocessing",
        preprocess=records[0],
        ranges_file=cache,
        config=gate,
    )


def test_weights_in_another_file_are_part_of_the_model(whole: Path, many: DataSet, tmp_path: Path) -> None:
    path = tmp_path / "in" / "net.onnx"
    path.parent.mkdir()

    def save(factor: float) -> bytes:
        proto = onnx.load(whole)
        for tensor in proto.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype == np.float32 and values.ndim == 4:
                tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(factor), tensor.name))
        (path.parent / "weights.bin").unlink(missing_ok=True)
        onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=100)
        return path.read_bytes()

    before = save(1)
    cache = tmp_path / "ranges.json"
    calibrate(path, many, CONFIG, tmp_path / "out", ranges_file=cache)
    assert save(2) == before
    refused(path, many, tmp_path / "out", "made with other settings")
    refused(path, many, tmp_path / "other", "belongs to another model", ranges_file=cache)


def test_the_model_itself_is_never_replaced(whole: Path, many: DataSet, tmp_path: Path) -> None:
    path = tmp_path / "net-plain-int8.onnx"
    path.write_bytes(whole.read_bytes())
    made = calibrate(path, many, CONFIG, tmp_path)
    assert made.path.name == "net-plain-int8-int8.onnx"
    assert path.read_bytes() == whole.read_bytes()
