"""The ladder in the report: each rung once, and the first that breaks in words."""

from typing import Any

from imf_deploy.forms import read_typed
from imf_deploy.records.checks import Rung
from imf_deploy.records.report import Report
from imf_deploy.report.html import render_html
from imf_deploy.report.terminal import summary_lines
from imf_deploy.report.verdict import broken_sentence, ladder_rows, rung_line


def test_each_rung_stands_once(report: dict[str, Any]) -> None:
    rows = [(product, rung.name) for product, rung in ladder_rows(Report.of(report))]
    assert len(rows) == len(set(rows))
    assert [name for product, name in rows if product == "imf@2"] == [
        "stripped", "folded", "ONNX fp32", "ONNX fp16",
    ]  # fmt: skip
    assert [name for product, name in rows if product == "plain"][:2] == ["stripped", "ONNX fp32"]


def test_it_holds(report: dict[str, Any]) -> None:
    sentence = broken_sentence(Report.of(report))
    assert sentence.startswith("The parity ladder holds on all ")
    assert sentence in summary_lines(Report.of(report))
    assert sentence in render_html(Report.of(report))


def test_the_first_broken_rung_of_a_product(report: dict[str, Any]) -> None:
    for row in report["artifacts"]:
        for rung in row["ladder"]:
            if row["product"] == "imf@2" and rung["name"].startswith("ONNX"):
                rung |= {"status": "fail", "reason": f"{rung['name']} is too far"}
    sentence = broken_sentence(Report.of(report))
    assert sentence == "The parity ladder breaks: imf@2 at ONNX fp32: ONNX fp32 is too far."
    assert sentence in render_html(Report.of(report))


def test_nothing_was_checked(report: dict[str, Any]) -> None:
    report["artifacts"] = []
    assert "No rung" in broken_sentence(Report.of(report))


def test_lines(report: dict[str, Any]) -> None:
    rung = report["artifacts"][0]["ladder"][-1]
    line = rung_line(read_typed(Rung, rung))
    assert line.strip().startswith(
        f"{rung['name']} against {rung['against']}: pass, largest difference 8.1e-06"
    )
    rung |= {"status": "not-run", "max_abs_diff": None, "reason": "no CUDA device"}
    assert rung_line(read_typed(Rung, rung)).endswith("not-run, no CUDA device")
