"""DKD against its paper's equations, and against plain KD, which it takes apart."""

import math

import pytest
import torch
from torch import Tensor

from imf_deploy.study.rivals.dkd import decoupled_distillation
from imf_deploy.tasks.classification import CLASSIFICATION

T = 4.0


def some(classes: int = 5, scale: float = 6.0) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits of a student and a teacher for eight images, and labels."""
    generator = torch.Generator().manual_seed(0)
    mine, its = (torch.randn(8, classes, generator=generator) * scale for _ in range(2))
    return mine, its, torch.arange(8) % classes


def by_hand(mine: list[float], its: list[float], label: int) -> tuple[float, float]:
    """Return TCKD and NCKD of one image by equations 1, 2 and 5 of Zhao et al. 2022, times ``T**2``."""

    def softmax(logits: list[float]) -> list[float]:
        powers = [math.exp(z / T) for z in logits]
        return [power / sum(powers) for power in powers]

    student, teacher = softmax(mine), softmax(its)
    q, p = student[label], teacher[label]
    target = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    others = 0.0
    for other in set(range(len(mine))) - {label}:
        hat_p, hat_q = teacher[other] / (1 - p), student[other] / (1 - q)
        others += hat_p * math.log(hat_p / hat_q)
    return target * T**2, others * T**2


def test_both_parts_are_the_papers() -> None:
    mine, its, labels = some()
    expected = [by_hand(*each) for each in zip(mine.tolist(), its.tolist(), labels.tolist(), strict=True)]
    target, others = decoupled_distillation(mine, its, labels, T)
    assert float(target) == pytest.approx(sum(t for t, _ in expected) / 8, rel=1e-4)
    assert float(others) == pytest.approx(sum(o for _, o in expected) / 8, rel=1e-4)


def test_together_they_are_kd() -> None:
    """Equation 7: KD is TCKD + (1 - p of the right class) * NCKD, image by image."""
    mine, its, labels = some()
    for index in range(len(labels)):
        one = slice(index, index + 1)
        target, others = decoupled_distillation(mine[one], its[one], labels[one], T)
        p = (its[index] / T).softmax(0)[labels[index]]
        kd = CLASSIFICATION.imitation(mine[one], its[one], T) * T**2
        torch.testing.assert_close(target + (1 - p) * others, kd, rtol=1e-4, atol=1e-5)


def test_nothing_is_left_to_learn_from_oneself() -> None:
    mine, _, labels = some()
    for part in decoupled_distillation(mine, mine + 3, labels, T):
        assert abs(float(part)) < 1e-5


def test_of_two_classes_there_is_only_one_other() -> None:
    mine, its, labels = some(classes=2)
    target, others = decoupled_distillation(mine, its, labels, T)
    assert float(others) == 0
    torch.testing.assert_close(target, CLASSIFICATION.imitation(mine, its, T) * T**2, rtol=1e-4, atol=1e-5)


def test_gradients_stay_finite_where_probabilities_vanish() -> None:
    mine, its, labels = some(scale=500.0)
    mine.requires_grad_()
    target, others = decoupled_distillation(mine, its, labels, 1.0)
    (target + others).backward()
    assert mine.grad is not None
    assert torch.isfinite(mine.grad).all()
    assert mine.grad.abs().sum() > 0
