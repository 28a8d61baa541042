"""The supervised loss of batches whose images do not count equally."""

import pytest
import torch
from torch.nn import functional

from imf_deploy.settings import TrainingSettings
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.training.mixing import mixing
from imf_deploy.training.weighing import Weighing, class_weights, scaled

LOGITS = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([3, -1, 0, -1, -1, 4, 4, -1])
KNOWN = LABELS >= 0


def loss(labels: torch.Tensor, logits: torch.Tensor = LOGITS, smoothing: float = 0.0) -> torch.Tensor:
    weighing = Weighing(5)
    return CLASSIFICATION.loss(logits, scaled(weighing.rows(labels)), smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_mean_over_labelled_images(smoothing: float) -> None:
    expected = functional.cross_entropy(LOGITS[KNOWN], LABELS[KNOWN], label_smoothing=smoothing)
    assert torch.allclose(loss(LABELS, smoothing=smoothing), expected)


def test_without_labels_loss_and_gradient_are_zero() -> None:
    logits = LOGITS.clone().requires_grad_()
    value = loss(torch.full((8,), -1), logits, 0.1)
    value.backward()
    assert value == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_parts_of_a_batch_add_up() -> None:
    weighing = Weighing(5)
    rows = scaled(weighing.rows(LABELS))
    parts = zip(LOGITS.split([3, 5]), rows.split([3, 5]), strict=True)
    total = sum(CLASSIFICATION.loss(logits, labels, 0.1) * len(logits) / 8 for logits, labels in parts)
    assert torch.allclose(torch.as_tensor(total), loss(LABELS, smoothing=0.1))


def test_mixed_images_count_by_their_labelled_share() -> None:
    mix, weighing = mixing(TrainingSettings(mixup=0.4), 5), Weighing(5)
    assert mix
    images = torch.arange(9.0).view(9, 1, 1, 1).expand(9, 3, 4, 4)
    mixed, rows = mix(images, weighing.rows(torch.cat([LABELS[-1:], LABELS])), 0)
    # An image k that is mixed with k - 1 shows k - share.
    share = 1 - float(mixed[0, 0, 0, 0])
    before = LABELS.roll(1) >= 0
    assert torch.allclose(rows.sum(1), before * share + KNOWN * (1 - share), atol=1e-6)
    value = CLASSIFICATION.loss(LOGITS, scaled(rows), 0.0)
    expected = -(rows * LOGITS.log_softmax(1)).sum() / rows.sum()
    assert torch.allclose(value, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_probabilities_are_smoothed_as_by_pytorch(smoothing: float) -> None:
    rows = torch.rand(8, 5, generator=torch.Generator().manual_seed(1)).softmax(1)
    expected = functional.cross_entropy(LOGITS, rows, label_smoothing=smoothing)
    assert torch.allclose(CLASSIFICATION.loss(LOGITS, rows, smoothing), expected)


def test_classes_are_weighted_as_by_scikit_learn() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2] + [-1] * 5)
    weights = class_weights(labels, 3)
    assert weights.tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert weights[labels[:10]].mean() == pytest.approx(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_weighted_loss_is_that_of_pytorch(smoothing: float) -> None:
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0, 0.25])
    labels = torch.tensor([3, 1, 0, 2, 2, 4, 4, 1])
    weighing = Weighing(5, weights)
    value = CLASSIFICATION.loss(LOGITS, scaled(weighing.rows(labels)), smoothing)
    each = functional.cross_entropy(LOGITS, labels, label_smoothing=smoothing, reduction="none")
    assert torch.allclose(value, (each * weights[labels]).sum() / weights[labels].sum())
    if not smoothing:
        assert torch.allclose(value, functional.cross_entropy(LOGITS, labels, weights))
