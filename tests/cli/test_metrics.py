"""Gates on any metric, metrics of users and calibrated confidences, from the command line to the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.artifact import load_artifact
from imf_deploy.records.files import OnnxFile, ProductFile

Here = Callable[..., Any]
ErrorOf = Callable[[Any, int], str]
COST = """
def cost(logits, labels):
    return float((logits.argmax(1) != labels).mean() + 1)
cost.higher_is_better = False
cost.unit = "EUR"
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "cost_metric.py").write_text(COST)
    monkeypatch.syspath_prepend(tmp_path)
    return "cost_metric:cost"


def test_a_run_with_gates_and_calibrated_confidences(
    here: Here, quick: list[str], own: str, tmp_path: Path, error: ErrorOf
) -> None:
    out = tmp_path / "out"
    gates = ["--gate", "ece=5", "--gate", "nll=0.5,top1=100", "--metric", own, "--gate", "cost=0.1"]
    options = ["--products", "plain,imf@1", "--no-refit", "--calibrate-confidence", "--output", out]
    done = here(*quick, *options, *gates)
    assert done.code == 0, done.err
    assert "Confidences were calibrated. plain: temperature" in " ".join(done.out.split())
    report = json.loads((out / "report.json").read_text())
    assert set(report["confidences"]) == {"plain", "imf@1"}
    for row in report["artifacts"]:
        assert dict(row["gate"]["gate"]) == {"cost": 0.1, "ece": 5.0, "nll": 0.5}
        assert row["gate"]["max_accuracy_drop"] == 100
        assert row["metrics"]["cost"]["unit"] == "EUR"
        assert row["metrics"]["cost"]["value"] == pytest.approx(2 - row["accuracy"])
        assert row["uncalibrated"]["top1"] == row["pytorch_accuracy"]
        assert row["uncalibrated"]["nll"] != row["metrics"]["nll"]["reference"]
        assert [rung["name"] for rung in row["ladder"]][-2:] == ["calibrated", "ONNX fp32"]
        assert "calibration error rises by at most 5 points" in report["recommendation"]["gate"]
    weights, file = out / "products/resnet8-plain.safetensors", out / "deploy/resnet8-plain-fp32.onnx"
    assert load_artifact(file, OnnxFile).confidence == load_artifact(weights, ProductFile).confidence
    # The record alone does not make its metric run.
    said = error(here("verify", file, "--against", weights), 2)
    assert (
        f"names '{own}' as the code of a metric, which was not run. If you trust that code, add --metric"
        in said
    )
    said = error(here("verify", file, "--against", weights, "--gate", "recall:class9=1"), 2)
    assert "--gate recall:class9 is not defined on the test images" in said
    done = here("verify", file, "--against", weights, "--metric", own)
    assert done.code == 0
    assert "0.1 EUR" in done.out
    # A finished run can be stripped again, without the option.
    again = here(
        "strip", out / "distilled.safetensors", "--products", "plain", "--output", tmp_path / "again"
    )
    assert again.code == 0
    assert load_artifact(tmp_path / "again" / weights.name, ProductFile).confidence is None
    calibrated = here(
        "strip", out / "distilled.safetensors", "--products", "plain", "--output", tmp_path / "third",
        "--calibrate-confidence",
    )  # fmt: skip
    assert "temperature" in calibrated.err
    assert (tmp_path / "third" / weights.name).read_bytes() == weights.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gate", "top5=1"], "--gate top5 is not defined on the test images of .*there are only 3 classes"),
        (["--gate", "recall:hat=1"], "--gate recall:hat is not defined .*there is no class 'hat'"),
        (["--gate", "f1=1"], "--gate 'f1' is not a metric"),
        (
            ["--gate", "top1=1", "--max-accuracy-drop", "1"],
            "--gate limits top1, and --max-accuracy-drop does too",
        ),
        (["--metric", "nowhere:cost"], "there is no module for the metric 'nowhere:cost'"),
        (["--metric", "math:sqrt"], "--metric math:sqrt does not state whether more of it is better"),
        (
            ["--student", "squeezenet1_1", "--products", "plain", "--calibrate-confidence"],
            "the last layer of squeezenet1_1 is not linear.*Leave out --calibrate-confidence",
        ),
        (["--val-fraction", "0", "--calibrate-confidence"], "--calibrate-confidence needs validation images"),
    ],
)
def test_what_is_refused_before_training(
    here: Here, quick: list[str], tmp_path: Path, error: ErrorOf, options: list[str], message: str
) -> None:
    import re

    said = error(here(*quick, *options, "--output", tmp_path / "out"), 2)
    assert re.search(message, said), said
    assert not (tmp_path / "out" / "teacher.safetensors").exists()
