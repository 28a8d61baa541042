"""``imf-deploy compare`` as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Cli = Callable[..., Any]
Error = Callable[[Any, int], str]


def test_one_run_in_every_form(here: Cli, finished_run: Path, tmp_path: Path) -> None:
    result = here("compare", finished_run, "--json", "c.json", "--html", "c.html")
    assert result.code == 0, result.err
    assert "Deploy run/deploy/resnet8-" in " ".join(result.out.split())
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["recommendation"]["run"] == "run"
    report = json.loads((finished_run / "report.json").read_text())
    assert content["recommendation"]["path"] == report["recommendation"]["path"]
    assert "<svg" in (tmp_path / "c.html").read_text()


def test_a_budget_that_nothing_fits(here: Cli, error: Error, finished_run: Path, tmp_path: Path) -> None:
    result = here("compare", finished_run / "report.json", "--size-budget-mb", "0.001", "--json", "c.json")
    message = error(result, 3)
    assert "comes nearest" in message
    assert "too large" in message
    assert json.loads((tmp_path / "c.json").read_text())["nearest"]["run"] == "run"


def test_mistakes(here: Cli, error: Error, finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("mine")
    assert "already exists" in error(here("compare", finished_run, "--json", "c.json"), 2)
    assert (tmp_path / "c.json").read_text() == "mine"
    assert here("compare", finished_run, "--json", "c.json", "--overwrite").code == 0
    assert "there is no file gone" in error(here("compare", "gone"), 2)
    (tmp_path / "empty").mkdir()
    assert "holds no report.json" in error(here("compare", "empty"), 2)
    assert "--min-accuracy" in error(here("compare", finished_run, "--min-accuracy", "90"), 2)
    (tmp_path / "foreign.json").write_text('{"schema": 1, "name": "x"}')
    assert "not a report of imf-deploy" in error(here("compare", "foreign.json"), 1)
    assert here("compare").code == 2
