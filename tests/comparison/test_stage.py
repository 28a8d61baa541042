from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.comparison.stage import compare
from imf_deploy.errors import UsageError
from imf_deploy.report.recommend import recommend
from imf_deploy.settings.compare import Budget

MakeRun = Callable[..., Path]


def test_without_a_budget_it_chooses_as_the_report_does(make_run: MakeRun) -> None:
    comparison = compare([make_run()])
    rows = [entry.row for entry in comparison.entries]
    assert len(rows) == 7
    chosen, expected = comparison.choice.entry, recommend(rows)
    assert chosen is not None
    assert expected is not None
    assert chosen.row.path == expected.path == "deploy/net-imf@2-fp32.onnx"
    assert comparison.choice.sentence == (
        f"Deploy run/{expected.path}: {expected.reason}. Its gate: {expected.gate}."
    )
    assert not comparison.warnings


def test_runs_with_different_gates_are_told_apart(make_run: MakeRun) -> None:
    strict = make_run("strict")
    report = json.loads((strict / "report.json").read_text())
    report["artifacts"][0]["gate"]["gate"] = [["ece", 2.0]]
    (strict / "report.json").write_text(json.dumps(report))
    assert any("different gates" in warning for warning in compare([strict, make_run("usual")]).warnings)


@pytest.mark.parametrize(
    ("budget", "product"),
    [
        (Budget(latency_budget_ms=0.5), "imf@1"),
        (Budget(size_budget_mb=1), "imf@1"),
        (Budget(latency_budget_ms=5, size_budget_mb=5), "plain"),
        (Budget(size_budget_mb=5), "imf@2"),
        (Budget(min_accuracy=0.9), "plain"),
        (Budget(min_accuracy=0.9, size_budget_mb=5), "plain"),
    ],
)
def test_the_choice_keeps_to_the_budget(make_run: MakeRun, budget: Budget, product: str) -> None:
    choice = compare([make_run()], budget).choice
    assert choice.entry is not None
    assert choice.entry.row.product == product
    assert f"of 5 files with {budget}" in choice.sentence
    assert choice.nearest is None


def test_the_test_split_has_no_say(make_run: MakeRun, one_row: Callable[..., dict[str, Any]]) -> None:
    # Nothing but test accuracies differs; the better one is slower within the noise and comes later.
    rows = [one_row("plain-fp32", accuracy=0.5, ms=1.0), one_row("imf@1-fp32", accuracy=0.99, ms=1.0)]
    choice = compare([make_run(rows=rows)]).choice
    assert choice.entry is not None
    assert choice.entry.row.product == "plain"


def test_the_best_of_two_runs(make_run: MakeRun, one_row: Callable[..., dict[str, Any]]) -> None:
    other = make_run("other", [one_row("imf@2-fp32", ms=0.4, validation_accuracy=0.895)])
    comparison = compare([make_run(), other])
    assert comparison.choice.entry is not None
    assert comparison.choice.entry.name == "other/deploy/net-imf@2-fp32.onnx"
    assert [entry.run.name for entry in comparison.entries].count("other") == 1


@pytest.mark.parametrize(
    ("budget", "nearest", "told"),
    [
        (Budget(latency_budget_ms=0.4), "imf@1-fp32", "0.500 ms, 0.100 ms too slow"),
        (Budget(size_budget_mb=0.3), "imf@1-fp32", "400 kB, 100 kB too large"),
        (Budget(min_accuracy=0.95), "plain-fp32", "90.0 %, 5.00 points too few"),
        (Budget(latency_budget_ms=0.9, min_accuracy=0.89), "imf@1-fp32", "82.0 %, 7.00 points too few"),
        (Budget(latency_budget_ms=0.95, min_accuracy=0.89), "imf@2-fp32", "1.00 ms, 0.0500 ms too slow"),
    ],
)
def test_when_nothing_fits_the_nearest_is_named(
    make_run: MakeRun, budget: Budget, nearest: str, told: str
) -> None:
    comparison = compare([make_run()], budget)
    choice = comparison.choice
    assert comparison.missed
    assert choice.entry is None
    assert choice.nearest is not None
    assert choice.nearest.row.path == f"deploy/net-{nearest}.onnx"
    assert choice.sentence.startswith(f"No file fits {budget}. run/deploy/net-{nearest}.onnx comes nearest: ")
    assert told in choice.sentence


def test_fronts_are_of_files_that_passed_on_validation_images(make_run: MakeRun) -> None:
    fronts = {e.row.path[11:-5]: set(e.fronts) for e in compare([make_run()]).entries}
    assert fronts == {
        "plain-fp32": {"latency"},
        "plain-fp16": {"size"},
        "imf@1-fp32": {"latency", "size"},
        "imf@2-fp32": {"latency", "size"},
        "imf@3-fp32": set(),
        "plain-int8": set(),
        "imf@1-fp16": set(),
    }


def test_runs_of_different_machines_share_no_latency_front(make_run: MakeRun) -> None:
    slow = make_run("slow", environment={"cpu": "CPU 1", "threads": 2})
    comparison = compare([make_run("fast"), slow])
    by_run = {
        name: [e.row.path for e in comparison.entries if e.run.name == name and "latency" in e.fronts]
        for name in ("fast", "slow")
    }
    assert by_run["fast"] == by_run["slow"]
    warning = comparison.warnings[0]
    assert warning.startswith("Latencies of fast and slow are not comparable")
    assert "cpu: CPU 9000 and CPU 1" in warning
    assert "onnxruntime: 1.32.0 and –" in warning
    # Neither the time of day nor a library that runs nothing is a condition.
    assert "; time:" not in warning
    assert "(time:" not in warning
    assert "matplotlib" not in warning


def test_only_files_that_were_timed_alike_are_held_against_each_other(
    make_run: MakeRun, one_row: Callable[..., dict[str, Any]]
) -> None:
    here = {"cpu": "CPU 1", "threads": 2}
    slow, also, fast = (
        make_run("slow", [one_row("plain-fp32", ms=4.0)], environment=here),
        make_run("also", [one_row("plain-fp32", ms=3.0)], environment=here),
        make_run("fast", [one_row("plain-fp32", ms=1.0), one_row("imf@1-fp32", ms=0.5)]),
    )
    choice = compare([slow, fast, also]).choice
    assert choice.entry is not None
    assert choice.entry.run.name == "also"
    assert "Only files of slow, also were considered: 2 others" in choice.sentence
    # A budget in milliseconds is one of one machine as well.
    missed = compare([slow, fast, also], Budget(latency_budget_ms=2.0))
    assert missed.missed
    assert missed.choice.nearest is not None
    assert missed.choice.nearest.run.name == "also"
    assert "Only files of slow, also were considered" in missed.choice.sentence
    other = compare([fast, slow, also], Budget(latency_budget_ms=2.0)).choice
    assert other.entry is not None
    assert other.entry.run.name == "fast"


def test_the_same_conditions_are_not_warned_of(make_run: MakeRun) -> None:
    comparison = compare([make_run("one"), make_run("two")])
    assert comparison.warnings == [
        "The runs were timed one after the other: imf-deploy bench measures two files in the same rounds."
    ]
    assert compare([make_run("three")]).warnings == []


def test_other_pictures_under_the_same_name_are_warned_of(make_run: MakeRun) -> None:
    other = make_run("two", config={"test_images": 2000, "data_fingerprint": "other"})
    assert any("other images or another split" in text for text in compare([make_run("one"), other]).warnings)


def test_different_data_is_refused(make_run: MakeRun) -> None:
    one = make_run("one")
    with pytest.raises(UsageError, match=r"different data .photos and birds"):
        compare([one, make_run("two", dataset="birds")])
    with pytest.raises(UsageError, match=r"different test images .2000 and 10"):
        compare([one, make_run("three", config={"test_images": 10})])


def test_runs_that_share_a_name_are_told_apart(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a/run")
    make_run("b/run")
    names = [run.name for run in compare([tmp_path / "a" / "run", tmp_path / "b" / "run"]).runs]
    assert len(set(names)) == 2
    with pytest.raises(UsageError, match="given twice"):
        compare([tmp_path / "a" / "run", tmp_path / "a" / "run" / "report.json"])


def test_nothing_to_recommend(make_run: MakeRun, one_row: Callable[..., dict[str, Any]]) -> None:
    for name, rows in (("none", []), ("unjudged", [one_row("plain-fp32", validation_accuracy=None)])):
        comparison = compare([make_run(name, rows)])
        assert comparison.choice.entry is None
        assert "none passed its checks, was timed" in comparison.choice.sentence
        assert not comparison.missed
    assert compare([make_run("again", [])], Budget(size_budget_mb=1)).missed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latency_budget_ms", 0),
        ("latency_budget_ms", float("nan")),
        ("size_budget_mb", -1),
        ("size_budget_mb", float("inf")),
        ("min_accuracy", 90),
        ("min_accuracy", float("nan")),
    ],
)
def test_budgets_that_mean_nothing(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"`{name}` {value} is out of range"):
        Budget(**{name: value})


def test_the_json_form(make_run: MakeRun) -> None:
    content = json.loads(
        json.dumps(compare([make_run()], Budget(size_budget_mb=1)).to_dict(), allow_nan=False)
    )
    assert content["recommendation"] == {"run": "run", "path": "deploy/net-imf@1-fp32.onnx"}
    assert content["nearest"] is None
    assert content["budget"] == {"latency_ms": None, "size_mb": 1, "min_accuracy": None}
    assert content["files"][3]["pareto_front"] == ["latency", "size"]
    assert content["files"][3]["accuracy_interval"] == [0.88, 0.92]
    assert content["runs"][0]["command"].startswith("imf-deploy distill-and-export")


def test_a_trial_is_called_one(make_run: MakeRun) -> None:
    trial = make_run("trial")
    content = json.loads((trial / "report.json").read_text())
    content["config"]["quick"] = True
    (trial / "report.json").write_text(json.dumps(content))
    told = "trial is a trial (--quick): its accuracies are not a result."
    assert compare([make_run("run"), trial]).warnings[0] == told
    assert compare([trial]).warnings == [told]
