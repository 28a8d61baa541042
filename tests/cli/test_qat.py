"""``--qat-epochs`` of the main job, and ``imf-deploy qat``."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.artifact import load_artifact
from imf_deploy.records.files import DistilledFile

Cli = Callable[..., Any]
Error = Callable[[Any, int], str]
# A network of one epoch on a few pictures guesses; what INT8 makes of a guess is chance.
INT8 = [
    "--precisions", "int8", "--qat-epochs", "1", "--keep-int8",
    "--max-accuracy-drop", "100", "--min-agreement", "0",
]  # fmt: skip


def test_products_come_from_the_tuned_weights(
    here: Cli, error: Error, quick: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = here(*quick, *INT8, "--output", out)
    assert result.code == 0, result.err
    tuned = load_artifact(out / "distilled-qat.safetensors", DistilledFile)
    assert tuned.parent == load_artifact(out / "distilled.safetensors").sha256
    assert load_artifact(out / "products" / "resnet8-imf@1.safetensors").parent == tuned.sha256
    report = json.loads((out / "report.json").read_text())
    assert report["config"]["qat_epochs"] == 1
    assert [record["epoch"] for record in report["history"]] == [1, 2]
    (note,) = [note for note in report["notes"] if "tuned for INT8 in 1 epoch of" in note]
    for name in ("float_before", "float_after", "rounded_after"):
        assert f"{getattr(tuned.qat, name):.2%}" in note
    assert note in result.err

    message = error(here("qat", out / "distilled.safetensors", "--device", "cpu"), 2)
    assert "--teacher-weights" in message
    again = ["qat", out / "distilled.safetensors", "--teacher-weights", out / "teacher.safetensors"]
    again += ["--accept-weak-teacher"]  # of one epoch
    result = here(*again, "--lr-factor", "0.02", "--device", "cpu", "--output", tmp_path / "same.safetensors")
    assert result.code == 0, result.err
    assert load_artifact(tmp_path / "same.safetensors").sha256 == tuned.sha256
    record = (tmp_path / "same.config.yaml").read_text()
    assert "lr-factor: 0.02" in record
    assert "epochs: 1" in record
    assert "imf-deploy strip" in result.lines[-1]


def test_without_torchao_nothing_is_trained(
    here: Cli, error: Error, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization.pt2e", None)
    result = here(*quick, *INT8, "--output", tmp_path / "out")
    assert "pip install 'torchao" in error(result, 1)
    assert len(result.lines) == 1
    assert not (tmp_path / "out").exists()
