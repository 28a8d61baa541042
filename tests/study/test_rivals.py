"""IMF's rivals: where they start, what they compare, and that the teacher is left as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from imf_deploy.data import DataSet
from imf_deploy.models import ModelSpec
from imf_deploy.settings import TrainingSettings
from imf_deploy.study.methods import METHODS
from imf_deploy.study.rivals import RIVALS, CrossEntropy, Dkd, FitNet, Kd
from imf_deploy.study.rivals.dkd import decoupled_distillation
from imf_deploy.study.rivals.kd import WARMUP
from imf_deploy.study.run import Run, train
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.teaching.teacher import Teacher

SPEC = ModelSpec("resnet8", 3, 16)
BASE = TrainingSettings(epochs=1, batch_size=8, device="cpu", seed=3)


class Stop(Exception):
    """Ends a training before its first step."""


def first_weights(
    method: str, data: DataSet, teacher: Teacher, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Tensor]:
    """Return what the student of a training starts with."""
    seen: dict[str, Tensor] = {}

    def look(task: Any, *_: object, **__: object) -> None:
        student = getattr(task.module, "student", task.module)
        seen.update({name: tensor.clone() for name, tensor in student.state_dict().items()})
        raise Stop

    monkeypatch.setattr("imf_deploy.study.run.fit", look)
    monkeypatch.setattr("imf_deploy.distillation.distill.fit", look)
    with pytest.raises(Stop):
        train(Run.of("resnet8", method, METHODS[method].candidates[0], BASE), data, teacher, folder)
    return seen


def test_all_students_start_from_the_same_weights(
    data: DataSet, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = first_weights("imf", data, teacher, tmp_path, monkeypatch)
    assert set(METHODS) == {*RIVALS, "imf"}
    for method in RIVALS:
        torch.rand(7)  # what was drawn before does not matter
        found = first_weights(method, data, teacher, tmp_path, monkeypatch)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected), method


def hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


@pytest.fixture
def batch(data: DataSet) -> tuple[Tensor, Tensor]:
    chosen = torch.arange(0, len(data.train), 5)
    return data.preprocess.normalize(data.train.fetch(chosen)), data.train.labels[chosen]


Terms = Callable[..., dict[str, Tensor]]


@pytest.fixture
def terms(batch: tuple[Tensor, Tensor]) -> Terms:
    """Return the terms of a task for a batch, as the training loop asks for them."""

    def of(task: CrossEntropy) -> dict[str, Tensor]:
        images, labels = batch
        (target,) = task.targets([images])
        return task.losses(task.module, images, labels, target)

    return of


def logits_of(task: CrossEntropy, teacher: Teacher, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the student's logits, in the mode that it is in, and the teacher's."""
    with torch.no_grad():
        return task.student(images), teacher.module(images)


def test_cross_entropy_asks_nobody(teacher: Teacher, batch: tuple[Tensor, Tensor], terms: Terms) -> None:
    task = CrossEntropy(SPEC, teacher, {"label_smoothing": 0.1})
    mine, _ = logits_of(task, teacher, batch[0])
    assert task.targets([batch[0]] * 2) == [None, None]
    found = terms(task)
    assert found.keys() == {"cross_entropy"}
    expected = functional.cross_entropy(mine, batch[1], label_smoothing=0.1)
    torch.testing.assert_close(found["cross_entropy"].detach(), expected)


def test_kd_has_the_meaning_of_beta_that_imf_has(
    teacher: Teacher, batch: tuple[Tensor, Tensor], terms: Terms
) -> None:
    task = Kd(SPEC, teacher, {"beta": 7.0, "temperature": 2.0})
    mine, its = logits_of(task, teacher, batch[0])
    found = terms(task)
    assert found.keys() == {"cross_entropy", "kd"}
    torch.testing.assert_close(found["cross_entropy"].detach(), functional.cross_entropy(mine, batch[1]))
    torch.testing.assert_close(found["kd"].detach(), 7 * CLASSIFICATION.imitation(mine, its, 2.0))


def test_dkd_rises_over_its_first_epochs(
    teacher: Teacher, batch: tuple[Tensor, Tensor], terms: Terms
) -> None:
    task = Dkd(SPEC, teacher, {"target": 1.0, "others": 8.0, "temperature": 4.0})
    mine, its = logits_of(task, teacher, batch[0])
    target, others = decoupled_distillation(mine, its, batch[1], 4.0)
    for progress, part in ((0.0, 0.0), (WARMUP / 2, 0.5), (WARMUP, 1.0), (0.9, 1.0)):
        task.progress = progress
        found = terms(task)
        torch.testing.assert_close(found["target_kd"].detach(), part * target)
        torch.testing.assert_close(found["others_kd"].detach(), part * 8 * others)


HINTED = {"beta": 20.0, "temperature": 4.0, "hint": 2.0}


@pytest.mark.parametrize("student", ["resnet8", "shufflenetv2"])
def test_fitnet_taps_both_networks_and_lets_go(
    data: DataSet, teacher: Teacher, terms: Terms, student: str
) -> None:
    task = FitNet(ModelSpec.for_images(student, 3, 16), teacher, HINTED)
    found = terms(task)
    assert found.keys() == {"cross_entropy", "kd", "hint"}
    sum(found.values(), torch.tensor(0.0)).backward()
    assert (hooks(task.student), hooks(teacher.module)) == (0, 0)
    assert all(p.grad is not None for p in task.module.parameters())
    extra = {name.split(".")[0] for name in task.module.state_dict()}
    assert extra == {"student", "regressor"}
    assert not any("regressor" in name for name in task.student.state_dict())


def test_the_hint_pulls_the_middle_block_and_nothing_behind_it(teacher: Teacher, terms: Terms) -> None:
    task = FitNet(SPEC, teacher, HINTED)
    terms(task)["hint"].backward()
    touched = {name.split(".")[0] for name, p in task.student.named_parameters() if p.grad is not None}
    untouched = {name.split(".")[0] for name, p in task.student.named_parameters() if p.grad is None}
    assert touched
    assert untouched
    assert not touched & untouched
    assert all(p.grad is not None for n, p in task.module.named_parameters() if n.startswith("regressor"))


def test_a_hint_of_a_map_that_is_not_square(teacher: Teacher) -> None:
    task = FitNet(ModelSpec.for_images("shufflenetv2", 3, (16, 40)), teacher, HINTED)
    images, labels = torch.randn(4, 3, 16, 40), torch.tensor([0, 1, 2, 0])
    (target,) = task.targets([images])
    found = task.losses(task.module, images, labels, target)
    assert all(bool(term.isfinite()) for term in found.values())
    height, width = target[1].shape[2:]
    assert 2 * width == 5 * height


@pytest.mark.parametrize("method", list(RIVALS))
def test_the_teacher_stays_as_it_was(teacher: Teacher, terms: Terms, method: str) -> None:
    before = {name: tensor.clone() for name, tensor in teacher.module.state_dict().items()}
    task = RIVALS[method](SPEC, teacher, METHODS[method].candidates[0])
    task.progress = 0.5
    sum(terms(task).values(), torch.tensor(0.0)).backward()
    its = {id(parameter) for parameter in teacher.module.parameters()}
    assert not any(id(parameter) in its for parameter in task.module.parameters())
    assert all(parameter.grad is None for parameter in teacher.module.parameters())
    assert not teacher.module.training
    after = teacher.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is not None for parameter in task.student.parameters())
