"""Logit standardisation and MLKD against their papers' equations."""

import pytest
import torch
from torch import Tensor

from imf_deploy.data import DataSet
from imf_deploy.models import ModelSpec
from imf_deploy.study.rivals import Mlkd, StandardisedKd, StandardisedMlkd
from imf_deploy.study.rivals.kd import Settings
from imf_deploy.study.rivals.logits import TEMPERATURES, levels, softened, standardised
from imf_deploy.teaching.teacher import Teacher


def some() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mine, its = (torch.randn(6, 3, generator=generator) * 5 for _ in range(2))
    return mine, its


def test_standardised_logits_do_not_depend_on_shift_and_positive_scale() -> None:
    logits, _ = some()
    found = standardised(logits)
    torch.testing.assert_close(found.mean(1), torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.std(1, correction=0), torch.ones(6))
    factors, shifts = torch.linspace(0.01, 90, 6)[:, None], torch.linspace(-7, 7, 6)[:, None]
    torch.testing.assert_close(standardised(factors * logits + shifts), found, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(standardised(-logits), -found)


def test_equal_logits_have_finite_gradients() -> None:
    logits = torch.ones(2, 3, requires_grad=True)
    softened(standardised(logits), some()[0][:2], 2.0).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_levels_are_the_papers() -> None:
    mine, its = some()
    batch = classes = 0.0
    for temperature in TEMPERATURES:
        student, teacher = ((z / temperature).softmax(1).tolist() for z in (mine, its))
        for i in range(6):
            for j in range(6):
                alike = [sum(p[i][c] * p[j][c] for c in range(3)) for p in (student, teacher)]
                batch += (alike[0] - alike[1]) ** 2 / 6
        for a in range(3):
            for b in range(3):
                alike = [sum(p[n][a] * p[n][b] for n in range(6)) for p in (student, teacher)]
                classes += (alike[0] - alike[1]) ** 2 / 3
    found = levels(mine, its)
    assert [float(each) for each in found] == pytest.approx([batch, classes], rel=1e-4)


def test_levels_see_relations_only() -> None:
    """Another order of the classes leaves the similarities of images; one of the images, those of classes."""
    mine, _ = some()
    batch, classes = levels(mine[:, [2, 0, 1]], mine)
    assert float(batch) == pytest.approx(0, abs=1e-9)
    assert float(classes) > 1e-3
    batch, classes = levels(mine.flip(0), mine)
    assert float(classes) == pytest.approx(0, abs=1e-9)
    assert float(batch) > 1e-3


KD: Settings = {"labels": 0.1, "kd": 9.0, "temperature": 2.0}
MLKD: Settings = {"labels": 0.1, "instance": 0.9, "relations": 0.3}


@pytest.mark.parametrize(
    ("method", "settings", "blind"),
    [
        (StandardisedKd, KD, {"kd"}),
        (StandardisedMlkd, MLKD, {"instance_level"}),
        (Mlkd, MLKD, set()),
    ],
)
def test_only_standardised_divergences_ignore_the_range_of_logits(
    data: DataSet, teacher: Teacher, method: type[Mlkd], settings: Settings, blind: set[str]
) -> None:
    torch.manual_seed(0)
    task = method(ModelSpec("resnet8", 3, 16), teacher, settings)
    chosen = torch.arange(0, len(data.train), 5)
    images, labels = data.preprocess.normalize(data.train.fetch(chosen)), data.train.labels[chosen]
    (target,) = task.targets([images])
    before = task.losses(task.module, images, labels, target)
    with torch.no_grad():
        head = task.student.get_submodule("fc")
        for parameter in head.parameters():
            parameter.mul_(3.0)
    after = task.losses(task.module, images, labels, target)
    same = {name for name in before if torch.isclose(before[name], after[name], rtol=1e-3)}
    assert same == blind
    unweighted = method(
        ModelSpec("resnet8", 3, 16), teacher, dict.fromkeys(settings, 1.0) | {"temperature": 2.0}
    )
    unweighted.student.load_state_dict(task.student.state_dict())
    ones = unweighted.losses(unweighted.module, images, labels, target)
    names = {"cross_entropy": "labels", "instance_level": "instance"}
    for name, term in after.items():
        weight = settings[names.get(name, "kd" if name == "kd" else "relations")]
        torch.testing.assert_close(term, weight * ones[name], rtol=1e-4, atol=1e-6)
