"""The metrics of a classifier: torchmetrics' values, and the cases that it leaves open, by hand."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchmetrics.functional import classification as theirs

from imf_deploy.tasks.classification import CLASSIFICATION

NAMES = [metric.name for metric in CLASSIFICATION.shown(6)]


def scores(logits: npt.ArrayLike, labels: list[int], *names: str) -> list[float]:
    wide = np.asarray(logits, np.float32)
    classes = [f"c{index}" for index in range(wide.shape[1])]
    return [value for value, _ in CLASSIFICATION.scores(names, wide, np.array(labels), classes)]


def drawn(
    seed: int, images: int, classes: int, of: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return logits that are often right, with labels of the first ``of`` classes."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, of, images)
    logits = random.normal(0, 2, (images, classes)).astype(np.float32)
    logits[np.arange(images), labels] += 2
    return logits, labels


@pytest.mark.parametrize(("images", "classes", "of"), [(500, 7, 7), (300, 7, 4), (40, 30, 30), (50, 6, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_values_of_torchmetrics(seed: int, images: int, classes: int, of: int) -> None:
    logits, labels = drawn(seed, images, classes, of)
    outputs, truth = torch.from_numpy(logits), torch.from_numpy(labels)
    present = np.unique(labels)

    def over_present(each: torch.Tensor) -> float:
        return float(each[present].double().mean())

    likely = outputs.double().softmax(1)
    expected = {
        "top1": theirs.multiclass_accuracy(outputs, truth, classes, average="micro"),
        "top5": theirs.multiclass_accuracy(outputs, truth, classes, average="micro", top_k=5),
        "balanced_accuracy": over_present(theirs.multiclass_recall(outputs, truth, classes, average="none")),
        "macro_f1": over_present(theirs.multiclass_f1_score(outputs, truth, classes, average="none")),
        "nll": torch.nn.functional.cross_entropy(outputs.double(), truth),
        "ece": theirs.multiclass_calibration_error(likely, truth, classes, n_bins=15, norm="l1"),
    }
    assert dict(zip(NAMES, scores(logits, [*labels], *NAMES), strict=True)) == {
        name: pytest.approx(float(value), abs=1e-6) for name, value in expected.items()
    }
    wanted = [(f"{kind}:c{c}", float(value[c])) for kind, value in (
        ("recall", theirs.multiclass_recall(outputs, truth, classes, average="none")),
        ("precision", theirs.multiclass_precision(outputs, truth, classes, average="none")),
    ) for c in present]  # fmt: skip
    measured = scores(logits, [*labels], *(name for name, _ in wanted))
    # A class that no image gets has no precision; torchmetrics counts it as 0.
    assert [0 if math.isnan(value) else value for value in measured] == pytest.approx([v for _, v in wanted])


def test_a_tie_counts_for_the_earlier_class() -> None:
    tied = [[1.0, 1.0, 1.0], [0.0, 2.0, 2.0]]
    assert scores(tied, [0, 1], "top1", "top2") == [1.0, 1.0]
    assert scores(tied, [1, 2], "top1", "top2") == [0.0, 1.0]
    assert scores(tied, [2, 0], "top2") == [0.0]


def test_nan_answers_nothing_and_leaves_no_confidence() -> None:
    spoilt = [[math.nan, 0.0, 1.0], [0.0, 5.0, 1.0]]
    assert scores(spoilt, [0, 1], "top1", "top2", "balanced_accuracy", "recall:c0") == [0.5, 0.5, 0.5, 0.0]
    assert all(map(math.isnan, scores(spoilt, [0, 1], "nll", "ece", "precision:c0")))
    assert CLASSIFICATION.right(np.array(spoilt), np.array([0, 1])).tolist() == [0.0, 1.0]


def test_classes_without_images_are_left_out_of_means() -> None:
    logits = [[3.0, 0.0, 0.0], [0.0, 0.0, 3.0]]
    assert scores(logits, [0, 0], "balanced_accuracy", "macro_f1") == pytest.approx([0.5, 2 / 3])
    assert math.isnan(scores(logits, [0, 0], "recall:c2")[0])


def test_one_class() -> None:
    assert scores([[2.0], [-1.0]], [0, 0], "top1", "balanced_accuracy", "macro_f1", "nll", "ece") == [
        1,
        1,
        1,
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("sure", "right", "error"), [(0.8, 4, 0.0), (0.8, 5, 0.2), (0.8, 0, 0.8), (0.6, 3, 0.0)]
)
def test_calibration_error_by_hand(sure: float, right: int, error: float) -> None:
    logits = np.tile([math.log(sure / (1 - sure)), 0.0], (5, 1))
    labels = [0] * right + [1] * (5 - right)
    assert scores(logits, labels, "ece") == pytest.approx([error], abs=1e-6)


def test_a_bin_includes_its_upper_end() -> None:
    # Probabilities of 1 are in the last bin, and one of 2 is far from 14/15.
    assert scores([[800.0, 0.0], [0.0, 0.0]], [0, 0], "ece") == pytest.approx([0.25])


def test_intervals() -> None:
    logits, labels = drawn(0, 400, 6, 6)
    found = dict(zip(NAMES, CLASSIFICATION.scores(NAMES, logits, labels, "abcdef"), strict=True))
    assert {name for name, (_, interval) in found.items() if interval} == {"top1", "top5", "nll"}
    value, interval = found["nll"]
    assert interval
    losses = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(labels), reduction="none"
    )
    assert interval[1] - value == pytest.approx(1.96 * float(losses.std()) / 20, rel=1e-3)


@pytest.mark.parametrize(
    ("metric", "labels", "why"),
    [
        ("top5", [0, 1, 2], "there are only 3 classes"),
        ("top3", [0, 1, 2], "there are only 3 classes"),
        ("top2", [0, 1, 2], ""),
        ("top1", [0], ""),
        ("recall:b", [0, 2], "the class has no images"),
        ("precision:d", [0, 2], "there is no class 'd'"),
        ("recall:c", [0, 2], ""),
        ("ece", [], "there are no images"),
        ("macro_f1", [0, 2], ""),
    ],
)
def test_what_is_not_defined(metric: str, labels: list[int], why: str) -> None:
    assert CLASSIFICATION.undefined(metric, np.array(labels, np.int64), ("a", "b", "c")) == why
