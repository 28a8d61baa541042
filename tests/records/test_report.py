from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.records.report import read_report


@pytest.fixture(scope="module")
def whole(finished_run: Path) -> dict[str, Any]:
    """The report of a run."""
    content: dict[str, Any] = json.loads((finished_run / "report.json").read_text())
    return content


@pytest.fixture
def file(whole: dict[str, Any], tmp_path: Path) -> Path:
    """A report that may be spoilt."""
    (tmp_path / "report.json").write_text(json.dumps(whole))
    return tmp_path / "report.json"


def test_what_was_written_is_read(whole: dict[str, Any], file: Path) -> None:
    report = read_report(file)
    report.save(file)
    assert json.loads(file.read_text()) == whole
    assert report.finite() == report


def test_what_is_not_finite_is_null(file: Path) -> None:
    report = read_report(file)
    odd = report.model_copy(update={"artifacts": [replace(report.artifacts[0], cosine=math.nan)]})
    odd.save(file)
    assert read_report(file).artifacts[0].cosine is None
    assert odd.finite() == read_report(file)


def test_unknown_fields_are_dropped(whole: dict[str, Any], file: Path) -> None:
    known = read_report(file)
    whole["artifacts"][0] |= {"later": 1}
    file.write_text(json.dumps(whole | {"later": 1}))
    assert read_report(file) == known


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
            "older version .form 1, this one reads 0.2.0.. Create it again with: imf-deploy distill",
        ),
        (lambda c: c.update(schema=1, command="a\x1b[2J"), r"Create it again with: a\\x1b\[2J"),
        (lambda c: c.pop("schema"), "is not a report of imf-deploy"),
        (lambda c: c.pop("artifacts"), "is not a report of imf-deploy"),
        (lambda c: c.pop("student"), "student: Field required"),
        (lambda c: c.update(seed=0.5), "seed should be a valid integer"),
        (lambda c: c.update(seed=True), "seed should be a valid integer"),
        (lambda c: c.update(notes="none"), "notes should be a valid array"),
        (lambda c: c.update(notes=[1]), r"notes\[0\] should be a valid string"),
        (lambda c: c.update(status="great"), "status should be 'pass' or 'fail'"),
        (lambda c: c.update(artifacts=[[]]), r"artifacts\[0\] should be an object"),
        (lambda c: c.update(recommendation={"path": "x"}), "recommendation.reason: Field required"),
        (
            first_row("latency_ms", {"p50": "fast", "p90": 1, "p99": 1}),
            r"artifacts\[0\].latency_ms.p50 should be a valid number",
        ),
        (first_row("accuracy_interval", [0.1]), r"accuracy_interval\[1\]: Field required"),
        (first_row("accuracy", 10**400), "accuracy should be"),
        (first_row("size_bytes", None), "size_bytes should be a valid integer"),
        (first_row("status", ["pass"]), "status should be"),
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
