"""What a classifier's answers count for, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from imf_deploy.tasks.classification import CLASSIFICATION

LOGITS = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 3.0], [np.nan, 0.0, 1.0]])
OTHER = np.array([[5.0, 4.0, 0.0], [0.0, 3.0, 2.0], [0.0, 0.0, 1.0]])


def test_the_largest_logit_is_the_answer() -> None:
    right = CLASSIFICATION.right(OTHER, np.array([0, 2, 2]))
    assert right.tolist() == [1.0, 0.0, 1.0]
    # A tie is another answer than one of its classes, and NaN is none.
    assert CLASSIFICATION.same(LOGITS, OTHER).tolist() == [1.0, 0.0, 0.0]


def test_divergence_by_hand() -> None:
    even, sure = np.zeros((1, 2)), np.array([[math.log(3), 0.0]])
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert CLASSIFICATION.divergence(sure, even)[0] == pytest.approx(expected)
    assert CLASSIFICATION.divergence(sure, sure)[0] == 0


def test_the_loss_by_hand() -> None:
    logits = torch.tensor([[math.log(3), 0.0]], dtype=torch.float16)
    assert CLASSIFICATION.loss(logits, torch.tensor([0]), 0.0).item() == pytest.approx(
        math.log(4 / 3), rel=1e-3
    )
    smooth = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    assert CLASSIFICATION.loss(logits, torch.tensor([0]), 0.2).item() == pytest.approx(smooth, rel=1e-3)
    mixed = torch.tensor([[0.5, 0.5]])
    expected = 0.5 * math.log(4 / 3) + 0.5 * math.log(4)
    assert CLASSIFICATION.loss(logits, mixed, 0.0).item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((8, 5), True), ((8, 5, 1, 1), True), ((8, 1, 5), True), ((8, 4), False), ((5,), False),
     ((8, 5, 5), False), ((8,), False), ((8, 5, 0), False)],
)  # fmt: skip
def test_the_shape_of_a_head(shape: tuple[int, ...], fits: bool) -> None:
    assert CLASSIFICATION.fits(shape, 5) is fits
