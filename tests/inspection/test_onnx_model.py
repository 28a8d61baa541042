from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.errors import ImfDeployError
from imf_deploy.inspection import inspect


@pytest.fixture
def ours(run: Path) -> Path:
    return run / "deploy" / "resnet8-imf@1-fp16.onnx"


def test_a_file_of_ours_tells_what_it_is_and_what_was_measured(ours: Path) -> None:
    found = inspect(ours)
    facts, record = found.facts, found.record
    assert found.title == "the product imf@1 of resnet8 as ONNX in fp16"
    assert found.warnings == []
    assert facts["precision"] == "fp16"
    assert facts["inputs"] == [{"name": "images", "type": "float32", "shape": ["batch", 3, 16, 16]}]
    assert facts["outputs"] == [{"name": "logits", "type": "float32", "shape": ["batch", 3]}]
    assert facts["values_by_type"]["float16"] > 1000
    assert facts["metadata"]["labels"] == ["class0", "class1", "class2"]
    assert record is not None
    assert record["matches"]
    assert record["source"] == facts["metadata"]["source_sha256"]
    assert record["verify"]["images"] == 18
    assert record["preprocess"]["size"] == 16


def test_a_changed_file_has_a_record_that_does_not_match(ours: Path) -> None:
    model = onnx.load(ours)
    model.doc_string = "edited"
    onnx.save(model, ours)
    found = inspect(ours)
    assert found.record is not None
    assert not found.record["matches"]
    assert any("changed after its record" in warning for warning in found.warnings)


def test_metadata_that_contradicts_the_graph_is_said(ours: Path) -> None:
    model = onnx.load(ours)
    for entry in model.metadata_props:
        if entry.key == "precision":
            entry.value = "int8"
    onnx.save(model, ours)
    assert "Its metadata states int8, but its graph is fp16" in inspect(ours).warnings


def test_without_its_sidecar(ours: Path) -> None:
    ours.with_name(ours.name + ".json").unlink()
    found = inspect(ours)
    assert found.record is None
    assert any("no sidecar" in warning for warning in found.warnings)


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}", '{"sha256": 5}', "[" * 100_000])
def test_a_damaged_sidecar(ours: Path, content: str) -> None:
    ours.with_name(ours.name + ".json").write_text(content)
    found = inspect(ours)
    assert found.record is None
    assert len(found.warnings) == 1


def test_anybody_s_file(foreign_onnx: Path) -> None:
    found = inspect(foreign_onnx)
    facts = found.facts
    assert found.title == "an ONNX file in int8, not written by imf-deploy"
    assert found.warnings == []
    assert (facts["opset"], facts["producer"]) == (19, "somebody 7")
    assert facts["operators"] == {"DequantizeLinear": 1, "MatMul": 1, "QuantizeLinear": 1}
    assert facts["values_by_type"] == {"float32": 16, "int8": 1}
    assert facts["inputs"] == [{"name": "x", "type": "float32", "shape": ["n", 3]}]
    assert json.loads(json.dumps(found.to_dict()))["record"] is None


def external(path: Path, location: str) -> None:
    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", value[:1], value[1:], [weight]
    )
    path.write_bytes(helper.make_model(graph).SerializeToString())


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("../secret.bin", "outside its own folder"),
        ("/etc/hostname", "outside its own folder"),
        ("link.bin", "outside its own folder"),
        ("gone.bin", "is missing"),
        ("a\0b", "impossible name"),
        ("weights.bin", ""),
    ],
)
def test_external_data_is_named_and_checked_and_not_read(tmp_path: Path, location: str, said: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"secret")
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "weights.bin").write_bytes(b"")  # too short: whoever read it would fail
    external(folder / "a.onnx", location)
    found = inspect(folder / "a.onnx")
    assert found.facts["external_data"] == [location]
    assert found.facts["values_by_type"] == {"float32": 4}
    assert [said in warning for warning in found.warnings] == ([True] if said else [])


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x07", b"\xff" * 100])
def test_no_onnx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ImfDeployError, match="damaged or not an ONNX"):
        inspect(tmp_path / "a.onnx")


def test_a_truncated_file(ours: Path) -> None:
    ours.write_bytes(ours.read_bytes()[:-100])
    with pytest.raises(ImfDeployError, match="damaged or not an ONNX"):
        inspect(ours)
