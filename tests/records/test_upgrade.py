"""Records of release 0.1.0, as its own code wrote them (long lists are cut), and those of other releases."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imf_deploy import __version__
from imf_deploy.artifact import load_artifact, read_record
from imf_deploy.errors import ImfDeployError
from imf_deploy.files import sha256_file
from imf_deploy.records.files import (
    Artifact,
    DistilledFile,
    EngineFile,
    OnnxFile,
    ProductFile,
    TeacherFile,
    sidecar_path,
)
from imf_deploy.records.report import read_report
from imf_deploy.records.upgrade import SCHEMA
from imf_deploy.settings import DistillSettings
from imf_deploy.settings.base import from_record
from imf_deploy.settings.upgrade import upgrade_data, upgrade_distill

FIRST: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("release_0_1_0.json").read_text())
KINDS = {
    "distilled": DistilledFile,
    "qat": DistilledFile,
    "plain": ProductFile,
    "imf@1": ProductFile,
    "fp32 onnx": OnnxFile,
    "int8 onnx": OnnxFile,
    "int8 engine": EngineFile,
}


def write(folder: Path, content: dict[str, Any]) -> Path:
    """Write a record beside a file that it belongs to; return the file."""
    path = folder / content["path"]
    path.write_bytes(b"content")
    sidecar_path(path).write_text(json.dumps(content | {"sha256": sha256_file(path)}))
    return path


@pytest.mark.parametrize("name", KINDS)
def test_every_measurement_of_the_first_release_is_kept(name: str, tmp_path: Path) -> None:
    old = FIRST[name]
    record = load_artifact(write(tmp_path, old), KINDS[name])
    written = json.loads(sidecar_path(record.save().path).read_text())
    assert written["schema"] == SCHEMA
    assert "evidence" not in written
    for key, value in (old | old["evidence"]).items():
        if key not in ("schema", "evidence", "sha256", "inputs", "outputs", "precision", "product"):
            upgrade = {"config": upgrade_distill, "data_config": upgrade_data}.get(key, lambda same: same)
            assert_holds(written[key], upgrade(value), key)
    if name.endswith(("onnx", "engine")):
        assert (written["inputs"], written["outputs"]) == (old["inputs"], old["outputs"])
    # What was upgraded is read as it was.
    assert load_artifact(record.path) == record


def assert_holds(new: Any, old: Any, place: str) -> None:
    """Check that nothing of a value is lost or changed; more may be there."""
    if isinstance(old, dict):
        for key, value in old.items():
            assert_holds(new[key], value, f"{place}.{key}")
    elif isinstance(old, list):
        assert len(new) == len(old), place
        for index, pair in enumerate(zip(new, old, strict=True)):
            assert_holds(*pair, f"{place}[{index}]")
    else:
        assert new == old, place


def test_the_settings_of_the_first_release_are_read(tmp_path: Path) -> None:
    old = copy.deepcopy(FIRST["distilled"])
    config = old["evidence"]["config"]
    del config["design"]["refining"], config["weights"]["depth"], old["evidence"]["teacher_key"]
    record = load_artifact(write(tmp_path, old), DistilledFile)
    known = from_record(DistillSettings, record.config)
    assert (known.refining, known.depth, known.epochs) == (0, 0.0, 1)
    assert record.teacher_key == ""
    product = copy.deepcopy(FIRST["imf@1"])
    del product["model"]["refining"]
    assert load_artifact(write(tmp_path, product)).model["refining"] == [0]


def test_the_teacher_of_the_package_is_one() -> None:
    import imf_deploy

    path = Path(imf_deploy.__file__).parent / "assets" / "fashion_mnist_resnet14x2.safetensors"
    record = load_artifact(path, TeacherFile)
    assert record.accuracy is not None
    assert record.accuracy > 0.9
    assert len(record.history) > 3


def test_the_report_of_the_first_release(tmp_path: Path) -> None:
    old, path = FIRST["report"], tmp_path / "report.json"
    path.write_text(json.dumps(old))
    report = read_report(path)
    report.save(path)
    written = json.loads(path.read_text())
    assert written["schema"] == SCHEMA
    for key in old.keys() - {"schema"}:
        assert_holds(written[key], old[key], key)
    assert read_report(path) == report


def test_the_version_of_the_project_goes_with_its_records() -> None:
    assert __version__.startswith(SCHEMA)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (1, "was written by an older version .form 1, this one reads 0.2.0"),
        (-(10**30), "older version"),
        (3, "was written by a newer version .form 3, this one reads 0.2.0.. Update imf-deploy"),
        ("0.3.0", "newer version .form 0.3.0"),
        ("9" * 5000 + "\x1b[2J\n", "newer version"),
        (None, "has no schema"),
        (True, "has no schema"),
        (2.0, "has no schema"),
        ([], "has no schema"),
    ],
)
def test_other_releases_are_refused(tmp_path: Path, schema: Any, said: str) -> None:
    path = write(tmp_path, FIRST["plain"] | {"schema": schema})
    with pytest.raises(ImfDeployError, match=said) as caught:
        load_artifact(path)
    assert len(str(caught.value)) < 300 + len(str(path))
    assert not {"\x1b", "\n"} & set(str(caught.value))
    report = tmp_path / "report.json"
    report.write_text(json.dumps(FIRST["report"] | {"schema": schema}))
    with pytest.raises(ImfDeployError, match=said):
        read_report(report)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(evidence=[]),
        lambda c: c.update(evidence={"strip": []}),
        lambda c: c.update(kind="distilled"),
        lambda c: c.update(kind=["product"]),
        lambda c: c.pop("kind"),
        lambda c: c["evidence"].update(kind="onnx"),
    ],
)
def test_a_damaged_one_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    old = copy.deepcopy(FIRST["imf@1"])
    change(old)
    path = write(tmp_path, old)
    with pytest.raises(ImfDeployError, match="is damaged"):
        load_artifact(path)


def test_a_record_without_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, FIRST["plain"])
    path.unlink()
    record: Artifact = read_record(sidecar_path(path))
    assert record.path == path
