"""ReviewKD against its paper: the distance at several scales, and which maps a fusion may use."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from imf_deploy.data import DataSet
from imf_deploy.models import ModelSpec
from imf_deploy.study.rivals.kd import WARMUP
from imf_deploy.study.rivals.review import Fusion, ReviewKd, hierarchical_context_loss
from imf_deploy.teaching.teacher import Teacher

SPEC = ModelSpec("resnet8", 3, 16)


def test_the_distance_is_the_papers() -> None:
    generator = torch.Generator().manual_seed(0)
    mine, its = (torch.randn(2, 3, 8, 8, generator=generator) for _ in range(2))
    power = its.square().mean()
    expected = functional.mse_loss(mine, its)
    for side, weight in ((4, 0.5), (2, 0.25), (1, 0.125)):
        size = 8 // side
        averaged = (functional.avg_pool2d(maps, size) for maps in (mine, its))
        expected = expected + weight * functional.mse_loss(*averaged)
    torch.testing.assert_close(hierarchical_context_loss(mine, its), expected / 1.875 / power)


@pytest.mark.parametrize("sides", [(8, 8), (4, 4), (3, 6), (2, 2), (1, 1)])
def test_a_constant_difference_is_the_same_at_all_scales(sides: tuple[int, int]) -> None:
    its = torch.ones(2, 3, *sides)
    torch.testing.assert_close(hierarchical_context_loss(its + 0.5, its), torch.tensor(0.25))
    torch.testing.assert_close(hierarchical_context_loss(10 * its + 5, 10 * its), torch.tensor(0.25))
    assert float(hierarchical_context_loss(its, its)) == 0


def test_without_deeper_maps_a_fusion_only_maps_and_with_them_it_weighs_both() -> None:
    torch.manual_seed(0)
    features, deeper = torch.randn(4, 6, 8, 8), torch.randn(4, 5, 2, 2)
    alone = Fusion(6, 5, 7, (4, 4), deepest=True)
    output, fused = alone(features, None)
    assert (output.shape, fused.shape) == ((4, 7, 4, 4), (4, 5, 4, 4))
    torch.testing.assert_close(fused, functional.interpolate(alone.reduce(features), (4, 4)))
    torch.testing.assert_close(output, alone.expand(fused))
    both = Fusion(6, 5, 7, (8, 8), deepest=False)
    both.load_state_dict(alone.state_dict(), strict=False)
    assert both.attention is not None
    for parameter in both.attention.parameters():
        torch.nn.init.zeros_(parameter)
    _, fused = both(features, deeper)
    larger = functional.interpolate(deeper, (8, 8))
    torch.testing.assert_close(fused, (both.reduce(features) + larger) / 2)


@pytest.fixture
def batch(data: DataSet) -> tuple[Tensor, Tensor]:
    chosen = torch.arange(0, len(data.train), 5)
    return data.preprocess.normalize(data.train.fetch(chosen)), data.train.labels[chosen]


def test_deep_maps_teach_no_shallow_ones_and_shallow_maps_all(
    teacher: Teacher, batch: tuple[Tensor, Tensor]
) -> None:
    """A level of the teacher is compared with the student's maps from its own depth on: it is reviewed."""
    task = ReviewKd(SPEC, teacher, {"review": 5.0})
    images, labels = batch
    (target,) = task.targets([images])
    _, outputs = task.module(images)
    assert [output.shape for output in outputs] == [its.shape for its in target]
    assert target[0].shape[-2:] == (1, 1)
    fusions = task.module.get_submodule("fusions")
    for level, output in enumerate(outputs):
        grads = torch.autograd.grad(
            output.square().sum(), [*fusions.parameters()], retain_graph=True, allow_unused=True
        )
        names = [int(name.split(".")[0]) for name, _ in fusions.named_parameters()]
        used = {name for name, grad in zip(names, grads, strict=True) if grad is not None}
        assert used == set(range(level + 1))
    for progress, part in ((0.0, 0.0), (WARMUP / 2, 0.5), (0.9, 1.0)):
        task.progress = progress
        found = task.losses(task.module, images, labels, target)
        assert found.keys() == {"cross_entropy", "review"}
        whole = 5 * sum(hierarchical_context_loss(o, t) for o, t in zip(outputs, target, strict=True))
        torch.testing.assert_close(found["review"], part * whole, rtol=1e-3, atol=1e-5)


def test_networks_with_other_blocks_and_images_that_are_not_square(teacher: Teacher) -> None:
    task = ReviewKd(ModelSpec.for_images("shufflenetv2", 3, (16, 40)), teacher, {"review": 1.0})
    images, labels = torch.randn(4, 3, 16, 40), torch.tensor([0, 1, 2, 0])
    (target,) = task.targets([images])
    task.progress = 1.0
    found = task.losses(task.module, images, labels, target)
    assert all(bool(term.isfinite()) for term in found.values())
    found["review"].backward()
    assert any(p.grad is not None for p in task.student.parameters())
