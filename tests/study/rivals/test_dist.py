"""DIST against its paper's equations: what Pearson's correlation sees, and what it does not."""

import numpy as np
import pytest
import torch
from torch import Tensor

from imf_deploy.study.rivals.dist import relational_distillation, uncorrelated

T = 4.0


def some(scale: float = 6.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mine, its = (torch.randn(8, 5, generator=generator) * scale for _ in range(2))
    return mine, its


def test_both_parts_are_the_papers() -> None:
    mine, its = some()
    student, teacher = ((z / T).softmax(1).double().numpy() for z in (mine, its))
    rows = [1 - np.corrcoef(student[i], teacher[i])[0, 1] for i in range(8)]
    columns = [1 - np.corrcoef(student[:, j], teacher[:, j])[0, 1] for j in range(5)]
    classes, images = relational_distillation(mine, its, T)
    assert float(classes) == pytest.approx(T**2 * np.mean(rows), rel=1e-4)
    assert float(images) == pytest.approx(T**2 * np.mean(columns), rel=1e-4)


def test_positive_affine_maps_of_predictions_change_nothing() -> None:
    """Equation 5: the distance of ``m1 u + n1`` from ``m2 v + n2`` is that of ``u`` from ``v``."""
    mine, its = ((z / T).softmax(1) for z in some())
    factors, shifts = torch.linspace(0.1, 3, 8)[:, None], torch.linspace(-2, 2, 8)[:, None]
    expected = uncorrelated(mine, its)
    torch.testing.assert_close(uncorrelated(factors * mine + shifts, its), expected)
    torch.testing.assert_close(uncorrelated(mine, factors * its + shifts), expected)
    torch.testing.assert_close(uncorrelated(-mine, its), 2 - expected)


def test_a_shift_of_every_image_s_logits_changes_nothing_and_the_teacher_s_own_are_best() -> None:
    mine, its = some()
    shifts = torch.arange(8.0)[:, None]
    for ours, theirs in zip(
        relational_distillation(mine + shifts, its, T), relational_distillation(mine, its, T), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
        assert 0.1 < float(theirs) < 2 * T**2
    assert all(abs(float(part)) < 1e-4 for part in relational_distillation(its + shifts, its, T))


def test_gradients_stay_finite_where_predictions_do_not_vary() -> None:
    mine = torch.zeros(4, 3)
    mine[:, 0] = 500.0  # the same one-hot row for each image: the columns are constant
    for logits in (mine, torch.zeros(4, 3)):
        logits.requires_grad_()
        classes, images = relational_distillation(logits, some()[1][:4, :3], 1.0)
        (classes + images).backward()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()
