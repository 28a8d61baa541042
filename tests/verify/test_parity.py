"""Intervals and comparisons against numbers worked out by hand."""

import json

import numpy as np
import pytest

from imf_deploy.evaluate import wilson_interval
from imf_deploy.verify.parity import compare


@pytest.mark.parametrize(
    ("accuracy", "count", "low", "high"),
    [  # from the closed form, z = 1.96, as statistics packages give them
        (0.5, 10, 0.2366, 0.7634),
        (0.0, 10, 0.0, 0.2775),
        (1.0, 10, 0.7225, 1.0),
        (0.9, 100, 0.8256, 0.9448),
        (0.88, 2000, 0.8650, 0.8935),
    ],
)
def test_wilson(accuracy: float, count: int, low: float, high: float) -> None:
    assert wilson_interval(accuracy, count) == pytest.approx((low, high), abs=6e-5)


# Four images, two classes; the third is wrong in PyTorch, the fourth close to a tie.
REFERENCE = np.array([[2.0, -1.0], [-4.0, 3.0], [1.0, 0.0], [0.0, 0.01]], np.float32)
LABELS = np.array([0, 1, 1, 1])


def test_equal_logits() -> None:
    parity = compare(REFERENCE, REFERENCE, LABELS, "fp32")
    assert parity.reason == ""
    assert (parity.max_abs_diff, parity.mean_abs_diff, parity.agreement) == (0, 0, 1)
    assert parity.cosine == pytest.approx(1)
    assert parity.accuracy == parity.pytorch_accuracy == 0.75
    assert parity.accuracy_interval == wilson_interval(0.75, 4)
    assert json.loads(json.dumps(parity.to_dict()))["images"] == 4


def test_numbers_by_hand() -> None:
    logits = REFERENCE.copy()
    logits[0, 0] += 0.5
    logits[3] = [0.03, 0.01]  # now the other class
    parity = compare(logits, REFERENCE, LABELS, "fp32")
    assert parity.max_abs_diff == 0.5
    assert parity.mean_abs_diff == pytest.approx((0.5 + 0.03) / 8)
    assert parity.agreement == 0.75
    assert (parity.accuracy, parity.pytorch_accuracy) == (0.5, 0.75)
    product = 2.5 * 2 + 1 + 16 + 9 + 1 + 0.01 * 0.01
    norms = (2.5**2 + 1 + 16 + 9 + 1 + 0.03**2 + 0.01**2) * (4 + 1 + 16 + 9 + 1 + 0.01**2)
    assert parity.cosine == pytest.approx(product / norms**0.5)
    assert "largest logit difference 0.5" in parity.reason


@pytest.mark.parametrize(
    ("precision", "allowed", "over"), [("fp32", 3.9e-4, 4.1e-4), ("fp16", 7.9e-2, 8.1e-2)]
)
def test_the_tolerance_is_relative_to_the_largest_logit(precision: str, allowed: float, over: float) -> None:
    for change, passes in ((allowed, True), (over, False)):
        logits = REFERENCE.copy()
        logits[1, 0] -= change  # the largest is 4
        parity = compare(logits, REFERENCE, LABELS, precision)
        assert (parity.reason == "") == passes


def test_small_logits_have_an_absolute_tolerance() -> None:
    parity = compare(REFERENCE / 100, REFERENCE / 100, LABELS, "fp16")
    assert parity.tolerance == pytest.approx(2e-2)


@pytest.mark.parametrize(
    ("precision", "flips", "passes"),
    [("fp32", 1, True), ("fp32", 2, False), ("fp16", 10, True), ("fp16", 11, False)],
)
def test_agreement_has_a_gate_of_its_own(precision: str, flips: int, passes: bool) -> None:
    reference = np.tile(np.array([[9.0, 0.0, 9.0 - 1e-5]], np.float32), (1000, 1))
    logits = reference.copy()
    logits[:flips, 2] += 2e-5
    parity = compare(logits, reference, np.zeros(1000, np.int64), precision)
    assert parity.agreement == pytest.approx(1 - flips / 1000)
    assert (parity.reason == "") == passes
    assert passes or "agreement" in parity.reason


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_fail(bad: float) -> None:
    logits = REFERENCE.copy()
    logits[2, 1] = bad
    assert compare(logits, REFERENCE, LABELS, "fp16").reason == "some logits are not finite"
