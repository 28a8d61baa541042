"""Changes by class and by image, against numbers computed by hand."""

import numpy as np
import pytest

from imf_deploy.verification.parity import class_changes, worst_inputs

NAMES = ("cat", "dog", "owl")
LABELS = np.array([0, 0, 1, 1, 1])
PYTORCH = np.array([[3, 0, 0], [0, 3, 0], [0, 3, 0], [0, 3, 0], [0, 1, 0.9]], np.float32)


def test_classes_by_hand() -> None:
    logits = PYTORCH.copy()
    logits[1] = [3, 0, 0]  # wrong, now right
    logits[4] = [0, 0.9, 1]  # right, now wrong
    cat, dog, owl = class_changes(logits, PYTORCH, LABELS, NAMES)
    assert (cat.label, cat.images, cat.pytorch_right, cat.right, cat.changed) == ("cat", 2, 1, 2, 1)
    assert (dog.images, dog.pytorch_right, dog.right, dog.changed) == (3, 3, 2, 1)
    assert (owl.images, owl.right, owl.changed) == (0, 0, 0)


def test_changed_classes_come_first_then_divergence() -> None:
    logits = PYTORCH.copy()
    logits[0] = [9, 0, 0]  # far, and the same class
    logits[2] = [0, 3.5, 0]
    logits[4] = [0, 0.9, 1]  # near, and another class
    found = worst_inputs(logits, PYTORCH, LABELS, NAMES, 3)
    assert [worst.image for worst in found] == [4, 0, 2]
    first = found[0]
    assert (first.label, first.pytorch, first.answer) == ("dog", "dog", "owl")
    p = np.exp([0, 1, 0.9]) / np.exp([0, 1, 0.9]).sum()
    q = np.exp([0, 0.9, 1]) / np.exp([0, 0.9, 1]).sum()
    assert first.pytorch_probability == pytest.approx(p[1])
    assert first.probability == pytest.approx(q[2])
    assert first.divergence == pytest.approx((p * np.log(p / q)).sum(), rel=1e-5)


def test_large_logits_and_ones_that_are_not_finite() -> None:
    found = worst_inputs(PYTORCH * 1e4, PYTORCH, LABELS, NAMES)
    assert all(np.isfinite(worst.divergence) for worst in found)
    broken = PYTORCH.copy()
    broken[0, 0] = np.nan
    assert worst_inputs(broken, PYTORCH, LABELS, NAMES) == []
    assert len(class_changes(broken, PYTORCH, LABELS, NAMES)) == 3
