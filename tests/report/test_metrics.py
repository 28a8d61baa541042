"""The metrics of a report: the table, the gate in words, changed confidences, and confusion matrices."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from imf_deploy.preprocess import Preprocess
from imf_deploy.records.checks import ClassChange
from imf_deploy.records.report import Report
from imf_deploy.report.confusion import confusion_change, confusion_matrix
from imf_deploy.report.html import render_html
from imf_deploy.report.markdown import render_markdown
from imf_deploy.report.metrics import (
    calibration_sentence,
    confidence_sentence,
    confusions,
    gate_words,
    metric_rows,
)
from imf_deploy.report.recommend import recommend
from imf_deploy.report.terminal import summary_lines
from imf_deploy.settings import Gate
from imf_deploy.verification.metrics import Metrics
from imf_deploy.verification.parity import class_changes


def drawn(classes: int, images: int, noise: float) -> list[ClassChange]:
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, images)
    logits = np.eye(classes, dtype=np.float32)[labels] * 3 + random.normal(0, 1, (images, classes))
    other = logits + random.normal(0, noise, logits.shape)
    names = [f"class {index}" for index in range(classes)]
    return class_changes(other.astype(np.float32), logits.astype(np.float32), labels, names)


def test_a_row_for_each_network_and_file(report: dict[str, Any]) -> None:
    rows = metric_rows(Report.of(report))
    assert [row.path.rpartition("-")[2] for row in rows] == ["", "fp32.onnx", "fp16.onnx"] * 4
    titles = ("balanced accuracy", "macro F1", "negative log-likelihood", "calibration error", "recall")
    assert len(rows[0].cells) == len(titles)
    assert rows[0].cells[2:] == ["0.310 (0.290–0.330)", "2.1 %", "76.0 %"]
    assert rows[2].cells[3:] == ["3.4 %", "75.9 % (worse by 0.10 of 1.5)"]


def test_a_changed_calibration_error_is_reported(report: dict[str, Any]) -> None:
    sentence = confidence_sentence(Report.of(report))
    assert sentence == (
        "The calibration error differs from PyTorch's by a point or more: deploy/mobilenetv2-imf@1-fp16.onnx "
        "(2.1 % to 3.4 %), deploy/mobilenetv2-imf@2-fp16.onnx (2.1 % to 3.4 %), and 2 more."
    )
    assert sentence in summary_lines(Report.of(report))
    for row in report["artifacts"]:
        for metric in row["metrics"].values():
            metric["value"] = metric["reference"]
    assert confidence_sentence(Report.of(report)) == ""


def test_the_recommendation_states_its_gate(report: dict[str, Any]) -> None:
    chosen = recommend(Report.of(report).artifacts)
    assert chosen
    words = (
        "accuracy falls by at most 1 point, at least 97.0 % of the images keep their class, "
        "recall of Shirt falls by at most 1.5 points"
    )
    assert chosen.gate == words
    report["recommendation"]["gate"] = words
    read = Report.of(report)
    assert f"It passed its gate on the test images: {words}." in summary_lines(read)
    assert words in render_html(read)


def test_gates_in_words() -> None:
    gate = Gate(2.5, 0.0, gate={"nll": 0.25, "ece": 1.0})
    labels = np.array([0, 1])
    logits = np.eye(2, dtype=np.float32)
    found = Metrics.of(gate, Preprocess.of_tensors((3, 8, 8), ("a", "b"))).measure(logits, logits, labels)
    assert gate_words(gate, found) == (
        "accuracy falls by at most 2.5 points, at least 0.0 % of the images keep their class, "
        "calibration error rises by at most 1 point, negative log-likelihood rises by at most 0.25 nats"
    )


@pytest.mark.parametrize(("classes", "numbers"), [(2, True), (12, True), (13, False), (100, False)])
def test_a_confusion_matrix_is_drawn(classes: int, numbers: bool) -> None:
    found = drawn(classes, 40 * classes, 1.0)
    matrix, change = confusion_matrix(found), confusion_change(found)
    assert matrix
    assert change
    errors = sum(sum(entry.confused.values()) for entry in found)
    assert f"{errors} of {40 * classes} images are beside the diagonal" in matrix
    assert (f">{found[0].right}<" in matrix) is numbers
    assert len(matrix) < 250_000
    assert not re.search("#0101", matrix + change)


@pytest.mark.parametrize("classes", [1, 101])
def test_matrices_that_are_not_drawn(classes: int) -> None:
    assert confusion_matrix(drawn(classes, 300, 1.0)) is None
    assert confusion_change(drawn(classes, 300, 1.0)) is None


def test_nothing_changes() -> None:
    assert confusion_change(drawn(5, 100, 0.0)) is None


def test_records_of_the_last_release_and_damaged_ones() -> None:
    assert confusion_matrix([ClassChange("a", 3, 2, 2, 0), ClassChange("b", 3, 2, 2, 0)]) is None
    damaged = [
        ClassChange("a", 3, 9, 9, 0, 1, 1, {"b": 10**9, "": 2, "other": 1}),
        ClassChange("a", 0, 5, 5, 0, 1, 1, {"a": 4}),
        ClassChange("b" * 500, 1, -1, -5, 0, 1, 1),
    ]
    assert confusion_matrix(damaged)


def test_the_largest_confusions_first() -> None:
    found = confusions(drawn(6, 600, 1.0), 5)
    assert len(found) == 5
    assert found == sorted(found, key=lambda cell: -cell.images)


def test_calibrated_confidences_are_compared_on_the_test_images(report: dict[str, Any]) -> None:
    assert calibration_sentence(Report.of(report)) == ""
    report["confidences"] = {
        "plain": {
            "layer": "fc", "temperature": 1.5, "images": 100, "nll_before": 0.5, "nll_after": 0.4,
            "ece_before": 0.05, "ece_after": 0.02,
        }
    }  # fmt: skip
    for row in report["artifacts"]:
        if row["product"] == "plain" and row["metrics"]:
            row["uncalibrated"] = {"top1": 0.9, "nll": 0.5, "ece": 0.041, "macro_f1": None}
    read = Report.of(report)
    sentence = calibration_sentence(read)
    assert sentence == (
        "Confidences were calibrated. plain: temperature 1.5, negative log-likelihood 0.500 to 0.400 and "
        "calibration error 5.0 % to 2.0 % on 100 validation images, and 4.1 % to 2.1 % on the test images."
    )
    assert sentence in summary_lines(read)
    assert sentence in render_html(read)
    (before,) = (row for row in metric_rows(read) if row.name == "plain before calibration")
    assert before.cells == ["–", "–", "0.500", "4.1 %", "–"]
    assert "plain before calibration" in render_markdown(read)
