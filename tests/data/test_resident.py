"""Pictures that stay on a device give the batches of those that are sent there."""

import pytest
import torch

from imf_deploy.data.augment import Augment
from imf_deploy.data.batches import Part, TrainLoader
from imf_deploy.data.dataset import MemoryImages, Split
from imf_deploy.data.resident import ResidentImages
from imf_deploy.preprocess import Preprocess

CPU = torch.device("cpu")


@pytest.mark.parametrize("part", [Part(), Part(1, 2), Part(leader=True)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "augment",
    [
        Augment(2),
        Augment(0),
        Augment(3, flip=False),
        Augment(0, flip=False),
        Augment((1, 3)),
        Augment((0, 2)),
    ],
)
def test_batches_are_the_same(augment: Augment, channels: int, part: Part) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (50, channels, 12, 20), dtype=torch.uint8, generator=generator)
    split = Split(MemoryImages(images, torch.arange(50)), torch.randperm(50, generator=generator)[:43])
    color = "L" if channels == 1 else "RGB"
    preprocess = Preprocess((12, 20), "none", 12, (0.5, 0.4, 0.3), (0.2,) * 3, ("a", "b"), color)
    usual, resident = (TrainLoader(split, preprocess, 8, augment, 3, part) for _ in range(2))
    resident._resident = ResidentImages(split.fetch(torch.arange(43)), split.labels, augment, CPU)
    for epoch, first in ((0, 0), (1, 2), (2, 5)):
        pairs = list(zip(usual.viewed_epoch(epoch, first), resident.viewed_epoch(epoch, first), strict=True))
        assert len(pairs) == 5 - first
        for one, other in pairs:
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True) if a is not None)
            assert other[0].is_contiguous(memory_format=torch.channels_last)


def test_no_pictures_lie_on_a_cpu_twice() -> None:
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    assert ResidentImages.of(Split.whole(MemoryImages(images, torch.arange(4))), Augment(1), CPU) is None
