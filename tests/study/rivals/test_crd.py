"""CRD against its paper's objective, and its memory of earlier images."""

import math

import pytest
import torch
from torch import Tensor

from imf_deploy.data import DataSet
from imf_deploy.models import ModelSpec
from imf_deploy.study.rivals import crd
from imf_deploy.study.rivals.crd import Crd, contrast
from imf_deploy.teaching.teacher import Teacher

SPEC = ModelSpec("resnet8", 3, 16)
SETTINGS = {"contrast": 0.8, "kd": 0.0, "temperature": 4.0}


def test_the_loss_is_the_papers() -> None:
    own, earlier = torch.tensor([2.0, 0.5]), torch.tensor([[0.2, 3.0, 1.0], [0.7, 0.1, 5.0]])
    others = torch.tensor([[True, True, False], [True, True, True]])
    expected = 0.0
    for image in range(2):
        negatives = earlier[image][others[image]].tolist()
        m, e = len(negatives), float(own[image])
        expected -= math.log(e / (e + m))
        expected -= sum(math.log(1 - negative / (negative + m)) for negative in negatives)
    assert float(contrast(own, earlier, others)) == pytest.approx(expected / 2, rel=1e-5)


def test_at_the_start_one_of_all_vectors_has_to_be_found() -> None:
    loss = contrast(torch.ones(3), torch.ones(3, 100), torch.ones(3, 100, dtype=torch.bool))
    assert float(loss) == pytest.approx(math.log(101) + 100 * math.log(1.01), rel=1e-5)


def test_agreement_with_one_s_own_lowers_the_loss_and_the_own_class_is_no_negative() -> None:
    earlier = torch.rand(2, 4) + 0.5
    others = torch.tensor([[True, True, True, False]] * 2)
    loss = contrast(torch.ones(2), earlier, others)
    assert contrast(torch.full((2,), 2.0), earlier, others) < loss
    alike = earlier.clone()
    alike[:, 3] = 1e6
    assert contrast(torch.ones(2), alike, others) == loss
    alike[:, 2] = 1e6
    assert contrast(torch.ones(2), alike, others) > loss
    assert bool(contrast(torch.ones(2), earlier, torch.zeros(2, 4, dtype=torch.bool)).isfinite())


@pytest.fixture
def batch(data: DataSet) -> tuple[Tensor, Tensor]:
    chosen = torch.arange(0, len(data.train), 5)
    return data.preprocess.normalize(data.train.fetch(chosen)), data.train.labels[chosen]


def test_a_step_remembers_its_images_and_replaces_the_oldest(
    teacher: Teacher, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = batch
    size = 2 * len(images) - 3
    monkeypatch.setattr(crd, "NEGATIVES", size)
    task = Crd(SPEC, teacher, SETTINGS)
    (target,) = task.targets([images])
    memory = task.contrasted
    assert (memory.labels == -1).all()
    for step in (1, 2):
        found = task.losses(task.module, images, labels, target)
        assert found.keys() == {"cross_entropy", "contrast", "kd"}
        assert float(found["kd"].detach()) == 0
        sum(found.values(), torch.tensor(0.0)).backward()
        assert int(memory.place) == step * len(images) % size
    assert sorted(memory.labels.tolist()) == sorted([*labels[3:].tolist(), *labels.tolist()])
    norms = torch.cat([memory.my_memory.vectors, memory.its_memory.vectors]).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(2 * size))
    assert all(p.grad is not None for p in task.module.parameters())
    scale = float(memory.my_memory.scale)
    assert scale > 0
    task.losses(task.module, images, labels, target)
    assert float(memory.my_memory.scale) == scale, "it is that of the first batch"
    # A training that was stopped goes on with the same memory.
    again = Crd(SPEC, teacher, SETTINGS)
    again.module.load_state_dict(task.module.state_dict())
    for one, other in zip(
        task.losses(task.module, images, labels, target).values(),
        again.losses(again.module, images, labels, target).values(),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
