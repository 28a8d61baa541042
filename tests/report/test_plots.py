from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from imf_deploy.records.report import Report
from imf_deploy.report import plots

Picture = str | None


def pictures(report: dict[str, Any]) -> dict[str, Picture]:
    """Return the charts of a report by name, drawn once for each content."""
    content = json.dumps(report)
    if content not in _DRAWN:
        _DRAWN[content] = draw(report)
    return _DRAWN[content]


_DRAWN: dict[str, dict[str, Picture]] = {}


def draw(report: dict[str, Any]) -> dict[str, Picture]:
    best = report["recommendation"]
    return {
        "latency": plots.accuracy_against_latency(
            Report.of(report).artifacts, best["path"] if best else None
        ),
        "losses": plots.loss_curves(report["history"]),
        "validation": plots.validation_curve(report["history"]),
        "teacher_losses": plots.loss_curves(report["teacher_history"], "teacher-losses"),
        "teacher_validation": plots.validation_curve(report["teacher_history"], "teacher-validation"),
        "parameters": plots.strip_bars(Report.of(report).strip, "parameters", "parameters"),
        "macs": plots.strip_bars(Report.of(report).strip, "macs", "multiply-accumulates"),
    }


def texts(svg: Picture) -> str:
    """Return the text in a chart; parsing it as XML proves that it is well formed."""
    assert svg is not None
    return " | ".join("".join(element.itertext()) for element in ET.fromstring(svg).iter("text"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "latency",
            ["imf@1", "imf@3", "plain", "ONNX fp16", "PyTorch fp32", "recommended", "(ms)", "accuracy (%)"],
        ),
        ("losses", ["epoch", "loss term", "cross-entropy", "feature distance"]),
        ("validation", ["epoch", "validation accuracy (%)"]),
        ("teacher_losses", ["epoch", "loss", "cross-entropy"]),
        ("teacher_validation", ["epoch", "validation accuracy (%)"]),
        ("parameters", ["before", "after", "imf@1", "94.7 k", "4.61 M", "parameters"]),
        ("macs", ["24.6 M", "multiply-accumulates"]),
    ],
)
def test_axes_and_points_are_labelled(report: dict[str, Any], name: str, words: list[str]) -> None:
    shown = texts(pictures(report)[name])
    assert [word for word in words if word not in shown] == []


def test_pictures_follow_the_page_and_fetch_nothing(report: dict[str, Any]) -> None:
    for name, svg in pictures(report).items():
        assert svg is not None
        assert ET.fromstring(svg).get("role") == "img", name
        assert len(ET.fromstring(svg).get("aria-label", "")) > 40, name
        assert "http" not in svg, name
        assert "currentColor" in svg, name
        assert "var(--rule" in svg, name
        assert "#0101" not in svg, "a colour that stands for a variable was left over"
        assert "#000" not in svg, "black would vanish on a dark page"


def test_ids_are_unique_over_the_page_and_all_references_exist(report: dict[str, Any]) -> None:
    page = "<p>" + "".join(svg or "" for svg in pictures(report).values()) + "</p>"
    elements = list(ET.fromstring(page).iter())
    ids = [element.get("id") for element in elements if element.get("id")]
    assert len(ids) == len(set(ids))
    links = [link[1:] for element in elements if (link := element.get("href"))]
    assert links
    assert set(links) <= set(ids)


def test_the_same_report_gives_the_same_pictures(report: dict[str, Any]) -> None:
    assert draw(report) == draw(report)


def test_hostile_names_are_text(report: dict[str, Any]) -> None:
    for row in report["artifacts"]:
        row["product"], row["precision"] = "<script>alert(1)</script>", '"--></svg>$x_1$'
    for proof in report["strip"]:
        proof["product"] = "</text><script>"
    shown = pictures(report)
    assert "<script>alert(1)</script>" in texts(shown["latency"])
    assert "$x_1$" in texts(shown["latency"])
    assert "<script" not in "".join(svg or "" for svg in shown.values())


def test_without_data_there_is_no_picture(report: dict[str, Any]) -> None:
    for row in report["artifacts"]:
        row["latency_ms"] = row["pytorch_latency_ms"] = None
    report["history"], report["strip"] = [{"epoch": 1, "lr": 0.1}], []
    report["teacher_history"] = []
    assert set(pictures(report).values()) == {None}


@pytest.mark.parametrize("tuned", [0, 1, 2, 5])
def test_quantisation_aware_training_is_set_apart(report: dict[str, Any], tuned: int) -> None:
    for curve, curves in ((plots.loss_curves, 5), (plots.validation_curve, 1)):
        svg = curve(report["history"], tuned=tuned)
        assert svg is not None
        assert ("QAT" in texts(svg)) == (tuned > 0)
        assert texts(svg).count("cross-entropy") == (curves == 5)
        # A curve of one training, or of each of two.
        lines = [
            e for e in ET.fromstring(svg).iter("g") if (e.get("id") or "").split("-")[-1][:6] == "line2d"
        ]
        plain = curve(report["history"])
        assert plain is not None
        before = [
            e for e in ET.fromstring(plain).iter("g") if (e.get("id") or "").split("-")[-1][:6] == "line2d"
        ]
        assert len(lines) == len(before) + (curves + 1 if tuned else 0)  # and the border


def test_odd_numbers_still_draw(report: dict[str, Any]) -> None:
    report["history"] = report["history"][:1]
    report["history"][0] |= {"cross_entropy": math.nan, "feature": 0.0}
    for row in report["artifacts"]:
        row["accuracy"] = 1.0 if row["accuracy"] else None
        row["accuracy_interval"] = None
        row["pytorch_latency_ms"] = None
    for proof in report["strip"]:
        proof["parameters_after"] = proof["parameters_before"] = 0
    assert "imf@2" in texts(pictures(report)["latency"])
    assert "cross-entropy" not in texts(pictures(report)["losses"])
    assert "imf@2" in texts(pictures(report)["parameters"])


def test_a_wide_range_of_latencies_gets_a_logarithmic_axis(report: dict[str, Any]) -> None:
    latency = report["artifacts"][0]["latency_ms"]
    assert latency is not None
    latency["p50"] = 0.01
    words = texts(pictures(report)["latency"]).split(" | ")
    assert {"0.01", "0.1", "1"} <= set(words)
