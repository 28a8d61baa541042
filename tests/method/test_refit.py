"""The loss of one head, minimised: against gradients by autograd, perturbations, and a closed form."""

import pytest
import torch
from torch.nn import functional

from imf_deploy.method import refit as module
from imf_deploy.method.refit import refit
from imf_deploy.settings import LossSettings
from imf_deploy.tasks.classification import CLASSIFICATION

Head = tuple[torch.Tensor, torch.Tensor]
WEIGHTS = LossSettings(beta=3.0, temperature=2.0)


@pytest.fixture
def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Head]:
    """Sixty images with labels that no head gets all right, so that the least loss has a place."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 4, generator=generator)
    labels = torch.randint(3, (60,), generator=generator)
    start = torch.randn(3, 4, generator=generator), torch.randn(3, generator=generator)
    return features, torch.randn(60, 3, generator=generator) * 2, labels, start


def loss(
    head: Head, features: torch.Tensor, taught: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """The student's own two terms, written out."""
    logits = features @ head[0].T + head[1]
    targets = functional.one_hot(labels, 3) * (1 - smoothing) + smoothing / 3
    entropy = -(targets * logits.log_softmax(1)).sum(1).mean()
    return entropy + WEIGHTS.beta * CLASSIFICATION.imitation(logits, taught, WEIGHTS.temperature)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_ends_at_the_least_loss(
    problem: tuple[torch.Tensor, torch.Tensor, torch.Tensor, Head], smoothing: float
) -> None:
    features, taught, labels, start = problem
    found = refit(features, taught, labels, start, WEIGHTS, smoothing)
    leaves = [value.clone().requires_grad_() for value in found]
    least = loss((leaves[0], leaves[1]), features, taught, labels, smoothing)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(least, leaves)])
    assert least.item() < loss(start, features, taught, labels, smoothing).item() - 0.1
    assert gradient.norm().item() < 1e-3
    # Convex: nothing near or far is lower, and every other start ends in the same answers.
    generator = torch.Generator().manual_seed(1)
    for size in (0.05, 1.0):
        other = tuple(v + size * torch.randn(v.shape, generator=generator) for v in found)
        assert loss((other[0], other[1]), features, taught, labels, smoothing) > least
    zeros = torch.zeros(3, 4), torch.zeros(3)
    again = refit(features, taught, labels, zeros, WEIGHTS, smoothing)
    for head in (found, again):
        assert torch.allclose(
            (features @ head[0].T + head[1]).softmax(1),
            (features @ found[0].T + found[1]).softmax(1),
            atol=1e-3,
        )


def test_features_that_say_nothing_end_at_the_part_of_each_class() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    _, bias = refit(
        torch.zeros(10, 4),
        torch.zeros(10, 3),
        labels,
        (torch.zeros(3, 4), torch.zeros(3)),
        LossSettings(beta=0),
    )
    assert torch.allclose(bias.softmax(0), torch.tensor([0.6, 0.3, 0.1]), atol=1e-4)


def test_what_a_linear_teacher_says_can_be_learned_whole(
    problem: tuple[torch.Tensor, torch.Tensor, torch.Tensor, Head],
) -> None:
    features, _, labels, start = problem
    its = torch.randn(3, 4, generator=torch.Generator().manual_seed(5))
    taught = features @ its.T
    # At a weight beside which labels do not count, the least divergence is none.
    weight, bias = refit(features, taught, labels, start, LossSettings(beta=1e4, temperature=1.0))
    assert torch.allclose((features @ weight.T + bias).softmax(1), taught.softmax(1), atol=1e-2)


def test_it_is_deterministic_and_changes_nothing_it_is_given(
    problem: tuple[torch.Tensor, torch.Tensor, torch.Tensor, Head],
) -> None:
    features, taught, labels, start = problem
    before = [value.clone() for value in (features, taught, *start)]
    torch.manual_seed(1)
    first = refit(features, taught, labels, start, WEIGHTS)
    torch.manual_seed(2)
    with torch.no_grad():
        second = refit(features, taught, labels, start, WEIGHTS)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, (features, taught, *start), strict=True))
    assert not any(value.requires_grad for value in first)


def test_iterations_are_what_bounds_it(
    problem: tuple[torch.Tensor, torch.Tensor, torch.Tensor, Head], monkeypatch: pytest.MonkeyPatch
) -> None:
    features, taught, labels, start = problem
    losses = []
    for count in (1, 5, 100):
        monkeypatch.setattr(module, "ITERATIONS", count)
        losses.append(loss(refit(features, taught, labels, start, WEIGHTS), features, taught, labels).item())
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[2] + 1e-3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_features_that_are_not_finite_give_the_start_back(
    problem: tuple[torch.Tensor, torch.Tensor, torch.Tensor, Head], value: float
) -> None:
    features, taught, labels, start = problem
    features[7, 2] = value
    found = refit(features, taught, labels, start, WEIGHTS)
    assert all(torch.equal(a, b) for a, b in zip(found, start, strict=True))
