"""Another task is one class: training, distillation, verification and INT8 count as it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from imf_deploy.calib.score import score
from imf_deploy.data import DataSet
from imf_deploy.data.evaluate import accuracy_of
from imf_deploy.method.branches import BranchOutputs
from imf_deploy.method.losses import TeacherOutputs, imf_losses
from imf_deploy.preprocess import Preprocess
from imf_deploy.settings import Gate, LossSettings
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.tasks.task import Outputs, Shares, Task
from imf_deploy.training.supervised import Supervised
from imf_deploy.verification.ladder import Tolerance, step
from imf_deploy.verification.parity import compare


class ManyLabels:
    """Each image may have any of the classes: a logit above zero names one."""

    metric = "labels"

    def fits(self, shape: tuple[int, ...], classes: int) -> bool:
        return shape[1:] == (classes,)

    def loss(self, outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(outputs, labels)

    def imitation(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        target = (teacher / temperature).sigmoid().expand_as(outputs)
        return nn.functional.binary_cross_entropy_with_logits(outputs / temperature, target)

    def right(self, outputs: Outputs, labels: npt.NDArray[Any]) -> Shares:
        share: Shares = ((outputs > 0) == labels).mean(1)
        return share

    def same(self, outputs: Outputs, reference: Outputs) -> Shares:
        return self.right(outputs, reference > 0)

    def divergence(self, outputs: Outputs, reference: Outputs) -> npt.NDArray[np.float64]:
        return np.abs(outputs - reference).mean(1).astype(np.float64)

    def interval(self, accuracy: float, images: int) -> tuple[float, float]:
        return accuracy - 0.125, accuracy + 0.125


MANY: Task = ManyLabels()
LOGITS = np.array([[1.0, 2.0, -1.0, -1.0], [1.0, -2.0, -3.0, 4.0]], dtype=np.float32)
MOVED = np.array([[1.0, 2.0, 1.0, -1.0], [1.0, -2.0, -3.0, 4.0]], dtype=np.float32)
LABELS = np.array([[1, 1, 0, 0], [0, 0, 0, 1]])


def test_verification_counts_its_shares() -> None:
    parity = compare(MOVED, LOGITS, LABELS, Gate(), MANY)
    assert (parity.accuracy, parity.pytorch_accuracy) == (0.75, 0.875)
    assert (parity.agreement, parity.accuracy_interval) == (0.875, (0.625, 0.875))
    reason = step("a", "b", MOVED, LOGITS, Tolerance(1.0, 0.9), MANY).reason
    assert reason == "labels agreement 87.50% is below 90.00%"
    result = score(MOVED, LOGITS, LABELS, MANY)
    assert (result.accuracy, result.float_accuracy, result.agreement) == (0.75, 0.875, 0.875)
    assert result.divergence == 0.25


def test_training_minimises_its_loss() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3, 4))
    images, labels = torch.randn(2, 3, 1, 1), torch.from_numpy(LABELS).float()
    losses = Supervised(module, 0.0, MANY).losses(module, images, labels, None)
    assert torch.equal(*losses.values(), MANY.loss(module(images), labels, 0.0))


def test_distillation_imitates_as_it_says() -> None:
    torch.manual_seed(0)
    own, labels = torch.randn(2, 4), torch.from_numpy(LABELS).float()
    branches = BranchOutputs([torch.randn(2, 5, 3, 3)], torch.randn(1, 2, 4), torch.randn(1, 2, 4))
    maps = {(0, 3): torch.randn(2, 5, 3, 3)}
    teacher = TeacherOutputs(torch.randn(2, 4), maps, {key: torch.ones(5) for key in maps})
    weights = LossSettings(beta=2.0, temperature=3.0)
    terms = imf_losses(own, branches, [(0, 3)], teacher, labels, weights, task=MANY)
    assert torch.equal(terms["cross_entropy"], MANY.loss(own, labels, 0.0))
    assert torch.equal(terms["student_kd"], 2 * MANY.imitation(own, teacher.logits, 3.0))
    expected = 2 * weights.branches * MANY.imitation(branches.logits, teacher.logits, 3.0)
    assert torch.equal(terms["branch_kd"], expected)


def test_accuracy_is_what_the_task_of_the_preprocessing_counts(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data.preprocess.task is CLASSIFICATION
    size, classes = data.preprocess.size, data.preprocess.num_classes
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, classes))
    cpu = torch.device("cpu")

    class Half(ManyLabels):
        def right(self, outputs: Outputs, labels: npt.NDArray[Any]) -> Shares:
            return np.full(len(outputs), 0.5)

    monkeypatch.setattr(Preprocess, "task", Half())
    assert accuracy_of(module, data.test, replace(data.preprocess), cpu) == 0.5
