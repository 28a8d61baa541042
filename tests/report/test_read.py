from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import write_json
from imf_deploy.report.html import write_report
from imf_deploy.report.read import read_report
from imf_deploy.report.schema import Report


@pytest.fixture
def file(report: Report, tmp_path: Path) -> Path:
    """The file alone: the pages beside it take half a second to draw."""
    write_json(tmp_path / "report.json", report)
    return tmp_path / "report.json"


def test_what_was_written_is_read(report: Report, file: Path, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    write_report(report, tmp_path / "whole")
    assert read_report(tmp_path / "whole" / "report.json") == report
    assert (tmp_path / "whole" / "report.json").read_bytes() == file.read_bytes()


def test_unknown_fields_are_kept(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"later": 1}))
    assert read_report(file)["later"] == 1  # type: ignore[typeddict-item]


def first_row(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def spoil(content: dict[str, Any]) -> None:
        content["artifacts"][0][key] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: c.update(schema=99), "newer version .form 99"),
        (
            lambda c: c.update(schema=1),
            r"older version .form 1, this one reads 2.\.? Make it again with: imf-deploy distill-and-export",
        ),
        (lambda c: c.update(schema=1, command="a\x1b[2J"), r"Make it again with: a\\x1b\[2J"),
        (lambda c: c.update(schema="1"), "no report of imf-deploy"),
        (lambda c: c.pop("artifacts"), "no report of imf-deploy"),
        (lambda c: c.pop("student"), "it lacks student"),
        (lambda c: c.update(seed=0.5), "seed is not a whole number"),
        (lambda c: c.update(seed=True), "seed is not a whole number"),
        (lambda c: c.update(notes="none"), "notes is not a list"),
        (lambda c: c.update(notes=[1]), r"notes\[0\] is not text"),
        (lambda c: c.update(status="great"), "status is not one of pass, fail"),
        (lambda c: c.update(artifacts=[[]]), r"artifacts\[0\] is not an object"),
        (lambda c: c.update(recommendation={"path": "x"}), "recommendation lacks reason"),
        (
            first_row("latency_ms", {"p50": "fast", "p90": 1, "p99": 1}),
            r"artifacts\[0\].latency_ms.p50 is not a number",
        ),
        (first_row("accuracy_interval", [0.1]), r"accuracy_interval has 1 entries, not 2"),
        (first_row("accuracy", 10**400), "accuracy is not a number"),
        (first_row("size_bytes", None), "size_bytes is not a whole number"),
        (first_row("status", ["pass"]), "status is not one of"),
    ],
)
def test_what_is_wrong_is_said(file: Path, spoil: Callable[[dict[str, Any]], None], said: str) -> None:
    content = json.loads(file.read_text())
    spoil(content)
    file.write_text(json.dumps(content))
    with pytest.raises(ImfDeployError, match=said):
        read_report(file)


@pytest.mark.parametrize("content", ["", "[]", "{}", "nonsense", "[" * 100_000, '{"schema": NaN}'])
def test_no_report(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(ImfDeployError):
        read_report(tmp_path / "report.json")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        read_report(tmp_path / "report.json")
