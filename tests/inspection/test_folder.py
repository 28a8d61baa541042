from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.inspection import inspect


def test_a_finished_run(run: Path) -> None:
    found = inspect(run)
    assert found.title == "a finished run"
    assert set(found.facts["stages"].values()) == {"done"}
    assert found.warnings == []
    assert "Deploy " in found.facts["verdict"] or "No file is recommended" in found.facts["verdict"]
    files = {entry["path"]: entry for entry in found.facts["files"]}
    assert list(files) == [
        "distilled.safetensors",
        "products/resnet8-imf@1.safetensors",
        "deploy/resnet8-imf@1-fp16.onnx",
        "deploy/resnet8-imf@1-fp32.onnx",
    ]
    deployed = files["deploy/resnet8-imf@1-fp32.onnx"]
    assert (deployed["record"], deployed["product"], deployed["verified"]) == ("matches", "imf@1", "pass")
    assert deployed["latency_ms"] > 0


@pytest.mark.parametrize(
    ("gone", "waiting"),
    [
        (["report.json"], "export, verify, bench and report"),
        (["report.json", "deploy"], "strip, export, verify, bench and report"),
        (["report.json", "deploy", "products"], "strip, export, verify, bench and report"),
        (
            ["report.json", "deploy", "products", "distilled.safetensors"],
            "distil, strip, export, verify, bench and report",
        ),
    ],
)
def test_a_run_that_was_cut_off(run: Path, gone: list[str], waiting: str) -> None:
    for name in gone:
        shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
    assert inspect(run).title == f"an unfinished run: {waiting}"


def test_a_checkpoint_is_named_and_not_opened(run: Path) -> None:
    for name in ("report.json", "distilled.safetensors"):
        (run / name).unlink()
    (run / "distilled.checkpoint").write_bytes(b"\x80\x04 no pickle at all")
    found = inspect(run)
    assert found.facts["stages"]["distil"] == "begun"
    assert found.facts["unfinished"] == ["distilled.checkpoint"]


def test_stages_that_a_run_may_have(run: Path) -> None:
    assert "qat" not in inspect(run).facts["stages"]
    settings = json.loads((run / "run.json").read_text())
    settings["config"]["qat_epochs"] = 1
    (run / "run.json").write_text(json.dumps(settings))
    stages = inspect(run).facts["stages"]
    assert list(stages)[:3] == ["distil", "qat", "strip"]
    assert stages["qat"] == "not yet"
    (run / "distilled-qat.checkpoint").write_bytes(b"")
    (run / "teacher.checkpoint").write_bytes(b"")
    stages = inspect(run).facts["stages"]
    assert list(stages)[:3] == ["train teacher", "distil", "qat"]
    assert stages["train teacher"] == stages["qat"] == "begun"


def test_changed_files_and_lost_records_are_said(run: Path) -> None:
    product, deployed = (run / "products/resnet8-imf@1.safetensors", run / "deploy/resnet8-imf@1-fp32.onnx")
    product.write_bytes(product.read_bytes() + b"x")
    deployed.with_name(deployed.name + ".json").unlink()
    found = inspect(run)
    states = {entry["path"]: entry["record"] for entry in found.facts["files"]}
    assert states["products/resnet8-imf@1.safetensors"] == "changed"
    assert states["deploy/resnet8-imf@1-fp32.onnx"] == "missing"
    assert "strip, export" in found.title
    assert any(warning.startswith("products/resnet8-imf@1.safetensors: ") for warning in found.warnings)


def test_links_out_of_the_folder_are_not_followed(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("deploy", "report.json"):
        (run / name).rename(outside / name)
        (run / name).symlink_to(outside / name)
    (run / "distilled.safetensors").rename(outside / "d.safetensors")
    (run / "distilled.safetensors").symlink_to(outside / "d.safetensors")
    sidecar = run / "products" / "resnet8-imf@1.safetensors.json"
    sidecar.rename(outside / "p.json")
    sidecar.symlink_to(outside / "p.json")
    found = inspect(run)
    assert [entry["path"] for entry in found.facts["files"]] == ["products/resnet8-imf@1.safetensors"]
    assert found.facts["files"][0]["record"] == "damaged"
    assert sum("link out of the folder" in warning for warning in found.warnings) == 4


@pytest.mark.parametrize(
    "name",
    [
        "deploy",
        "products",
        "report.json",
        "run.json",
        "distilled.safetensors",
        "products/resnet8-imf@1.safetensors",
    ],
)
@pytest.mark.parametrize("round_about", [False, True])
def test_links_to_themselves(run: Path, name: str, round_about: bool) -> None:
    place = run / name
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    target = f"{place.name}-too" if round_about else place.name
    place.symlink_to(target)
    if round_about:
        (place.parent / target).symlink_to(place.name)
    (run / "products" / "a.onnx").symlink_to("a.onnx") if (run / "products").is_dir() else None
    found = inspect(run)
    assert not any(entry["path"].startswith(name) for entry in found.facts["files"])


def test_a_folder_of_files_is_listed(run: Path) -> None:
    found = inspect(run / "deploy")
    assert (found.kind, found.title) == ("folder", "a folder of 2 files")


def test_a_folder_of_nothing_known(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UsageError, match="holds no run"):
        inspect(tmp_path)


def test_records_settings_and_reports(run: Path) -> None:
    record = inspect(run / "deploy" / "resnet8-imf@1-fp32.onnx.json")
    assert record.record is not None
    assert record.record["matches"]
    settings = inspect(run / "run.json")
    assert (settings.kind, settings.facts["distill"]["student"]) == ("settings", "resnet8")
    report = inspect(run / "report.json")
    assert (report.kind, report.facts["status"]) == ("report", "pass")
    (run / "other.json").write_text(json.dumps({"b": 1, "a": 2}))
    assert inspect(run / "other.json").facts == {"keys": ["a", "b"]}


def test_a_record_without_its_file(run: Path) -> None:
    (run / "deploy" / "resnet8-imf@1-fp32.onnx").unlink()
    found = inspect(run / "deploy" / "resnet8-imf@1-fp32.onnx.json")
    assert found.record is not None
    assert not found.record["matches"]
    assert found.warnings == ["The file resnet8-imf@1-fp32.onnx is not next to it"]


@pytest.mark.parametrize("content", ["", "[]", "nonsense", "[" * 100_000])
def test_damaged_json(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ImfDeployError, match=r"JSON|nested too deeply"):
        inspect(tmp_path / "a.json")
