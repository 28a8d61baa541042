from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from imf_deploy.records.report import Report
from imf_deploy.report.terminal import render_summary


def printed(report: dict[str, Any], width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render_summary(Report.of(report)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def unwrapped(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [75, 80, 90])
def test_every_file_keeps_its_row(report: dict[str, Any], width: int) -> None:
    text = printed(report, width)
    table, _, sentences = text.partition("Student ")
    assert max(map(len, table.splitlines())) <= width
    assert table.splitlines()[0] == "deploy/mobilenetv2-…"
    assert len(table.splitlines()) == 3 + len(report["artifacts"])
    row = next(line for line in table.splitlines() if "→" in line)
    for shown in ("→ imf@3-fp32.onnx ", "89.8 ±1.3", "90.2", "1.71", "2.98×", "4.88 MB", "pass"):
        assert shown in row
    # The least needed columns go first.
    assert ("8.1e-06" in row) == (width == 90)
    assert ("100 %" in row) == (width >= 80)
    assert "teacher cifar_resnet20x4 (93.5 % on the test images)" in unwrapped(sentences)
    assert "not run: no CUDA device (deploy/mobilenetv2-imf@3-fp16-sm86.engine, " in unwrapped(sentences)
    assert "Not checked: 2 files (no CUDA device); latency on other machines than" in unwrapped(text)
    assert unwrapped(text).endswith(
        "Deploy deploy/mobilenetv2-imf@3-fp32.onnx: the fastest file within 0.5 points of the best."
    )


@pytest.mark.parametrize("width", [40, 80, 200])
def test_any_width_prints(report: dict[str, Any], width: int) -> None:
    assert "Deploy deploy/mobilenetv2-imf@3-fp32.onnx" in unwrapped(printed(report, width))


def test_names_are_not_markup(report: dict[str, Any]) -> None:
    report["artifacts"][0]["path"] = "[red]x[/red].onnx"
    report["artifacts"][0]["product"] = "[/]"
    report["notes"] = ["[bold]a note[/oops]", "steered\x1b[2J"]
    text = printed(report, 140)
    assert "\x1b" not in text
    assert "[red]x[/red].onnx" in unwrapped(text)
    assert "[bold]a note[/oops]" in unwrapped(text)


def test_a_failed_file_is_said_with_its_reason(report: dict[str, Any]) -> None:
    row = report["artifacts"][1]
    row["status"], row["reason"] = "fail", "max difference 0.3 is above 0.05"
    report["status"] = "fail"
    text = printed(report)
    assert "failed: max difference 0.3 is above 0.05 (deploy/mobilenetv2-imf@1-fp16.onnx)." in unwrapped(text)
    assert "10 files: 7 passed, 1 failed, 2 could not be run here" in unwrapped(text)


def test_nothing_to_deploy(report: dict[str, Any]) -> None:
    report["recommendation"] = None
    for row in report["artifacts"]:
        row["status"] = "fail"
    assert "Deploy nothing from this run: no file passed its checks." in unwrapped(printed(report))
    report["artifacts"], report["strip"] = [], []
    assert "it made no files" in unwrapped(printed(report))
