from __future__ import annotations

from copy import deepcopy
from typing import Any

from imf_deploy.forms import read_typed
from imf_deploy.records.report import ArtifactRow, Report
from imf_deploy.report.html import render_html
from imf_deploy.report.markdown import render_markdown
from imf_deploy.report.recommend import recommend


def rows(*content: dict[str, Any]) -> list[ArtifactRow]:
    return [read_typed(ArtifactRow, row) for row in content]


def test_exactly_one_point_below_the_best_is_within_one_point(report: dict[str, Any]) -> None:
    best, small = report["artifacts"][6], report["artifacts"][0]
    best["validation_accuracy"], small["validation_accuracy"] = 152 / 300, 149 / 300
    assert 152 / 300 - 0.01 > 149 / 300  # in binary fractions
    chosen = recommend(rows(best, small))
    assert chosen is not None
    assert chosen.path == small["path"]


def test_a_latency_of_microseconds_is_not_told_as_nothing(report: dict[str, Any]) -> None:
    row = report["artifacts"][0]
    row["latency_ms"] = {"p50": 0.00321, "p90": 0.004, "p99": 0.005}
    chosen = recommend(rows(row))
    assert chosen is not None
    assert "(0.00321 ms at batch 1)" in chosen.reason


def test_what_is_compared_is_said_and_is_in_the_table(report: dict[str, Any]) -> None:
    """An INT8 file is judged by its own accuracy, and a float file by that of its product."""
    product, own = report["artifacts"][0], report["artifacts"][6]
    product["validation_accuracy"], own["validation_accuracy"] = 0.811, 0.815
    product.pop("calibration", None)
    chosen = recommend(rows(product))
    assert chosen is not None
    assert "its product's accuracy in PyTorch is 81.1%, the best is 81.1%" in chosen.reason
    own["calibration"] = {
        "target": "onnxruntime-cpu", "method": "minmax", "images": 1, "layers": 1, "float_layers": [],
        "sensitivity": [],
    }  # fmt: skip
    own["latency_ms"] = {"p50": 0.001, "p90": 0.001, "p99": 0.001}
    chosen = recommend(rows(product, own))
    assert chosen is not None
    assert "its own accuracy is 81.5%, the best is 81.5%" in chosen.reason
    report["artifacts"] = [product, own]
    for shown in (render_markdown(Report.of(report)), render_html(Report.of(report))):
        assert "81.1 %" in shown
        assert "81.5 %" in shown


def test_within_a_latency_budget_the_most_accurate_file_is_chosen(report: dict[str, Any]) -> None:
    first, second, third = (deepcopy(report["artifacts"][0]) for _ in range(3))
    for row, path, p50, right in (
        (first, "slow", 3.0, 0.90), (second, "good", 2.0, 0.895), (third, "fast", 0.5, 0.89),
    ):  # fmt: skip
        row |= {"path": path, "latency_ms": {"p50": p50, "p90": p50, "p99": p50}}
        row["validation_accuracy"] = right
    found = [recommend(rows(first, second, third), budget) for budget in (None, 3.5, 2.0, 1.0, 0.4)]
    assert [each and each.path for each in found] == ["fast", "slow", "good", "fast", None]
    assert found[2] is not None
    assert "the most accurate file on the validation images" in found[2].reason
    assert "of the 2 within 2 ms (2.00 ms at batch 1)" in found[2].reason


def test_a_budget_that_no_file_fits_is_said(report: dict[str, Any]) -> None:
    report |= {"recommendation": None, "latency_budget_ms": 1e-6}
    whole = Report.of(report)
    assert whole.over_budget is not None
    for page in (render_markdown(whole), render_html(whole)):
        assert f"No file is within 1e-06 ms: the fastest, {whole.over_budget.path}" in page.replace("\\", "")
    report["latency_budget_ms"] = 1e6
    assert Report.of(report).over_budget is None
