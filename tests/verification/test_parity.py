"""Intervals and comparisons against numbers worked out by hand."""

import json

import numpy as np
import pytest

from imf_deploy.forms import to_json
from imf_deploy.settings import Gate
from imf_deploy.tasks.classification import wilson_interval
from imf_deploy.verification.parity import compare


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
    parity = compare(REFERENCE, REFERENCE, LABELS, Gate(0, 1))
    assert (parity.status, parity.reason) == ("pass", None)
    assert (parity.max_abs_diff, parity.mean_abs_diff, parity.agreement) == (0, 0, 1)
    assert parity.cosine == pytest.approx(1)
    assert parity.accuracy == parity.pytorch_accuracy == 0.75
    assert parity.accuracy_interval == wilson_interval(0.75, 4)
    assert json.loads(json.dumps(to_json(parity)))["images"] == 4


def test_numbers_by_hand() -> None:
    logits = REFERENCE.copy()
    logits[0, 0] += 0.5
    logits[3] = [0.03, 0.01]  # now the other class
    parity = compare(logits, REFERENCE, LABELS, Gate(25, 0.75))
    assert parity.max_abs_diff == 0.5
    assert parity.mean_abs_diff == pytest.approx((0.5 + 0.03) / 8)
    assert parity.agreement == 0.75
    assert (parity.accuracy, parity.pytorch_accuracy) == (0.5, 0.75)
    product = 2.5 * 2 + 1 + 16 + 9 + 1 + 0.01 * 0.01
    norms = (2.5**2 + 1 + 16 + 9 + 1 + 0.03**2 + 0.01**2) * (4 + 1 + 16 + 9 + 1 + 0.01**2)
    assert parity.cosine == pytest.approx(product / norms**0.5)
    assert (parity.status, parity.reason) == ("pass", None)
    dropped = compare(logits, REFERENCE, LABELS, Gate(24, 0.75))
    assert dropped.status == "fail"
    assert dropped.reason == "accuracy falls by 25.00 points from 75.00%, and 24 are allowed"
    disagrees = compare(logits, REFERENCE, LABELS, Gate(25, 0.76))
    assert disagrees.reason == "top-1 agreement 75.00% is below 76.00%"
