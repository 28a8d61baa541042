"""Small networks of a user's own, and batches of data, as objects."""

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from imf_deploy.teaching.teacher import Teacher

Batches = list[tuple[Tensor, Tensor]]


class TinyNet(nn.Module):
    """A user's own classifier: three stages, and a head."""

    def __init__(self, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(max(before, width), after, 3, stride=1 + (index > 0), padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(inplace=True),
                )
                for index, (before, after) in enumerate(itertools.pairwise(widths))
            )
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(self.stem(images)).mean((2, 3)))
        return logits


@pytest.fixture
def student() -> TinyNet:
    torch.manual_seed(0)
    return TinyNet()


@pytest.fixture
def big(teacher: Teacher) -> nn.Module:
    """A trained teacher, as a plain module."""
    return copy.deepcopy(teacher.module)


def batches(count: int, size: int = 8, side: int = 16, seed: int = 0) -> Batches:
    """Return batches of noisy colours, one for each of three classes."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        labels = torch.randint(0, 3, (size,), generator=generator)
        noise = 0.5 * torch.randn(size, 3, side, side, generator=generator)
        made.append((noise + 2.0 * nn.functional.one_hot(labels, 3)[:, :, None, None] - 0.67, labels))
    return made


@pytest.fixture
def loader() -> Batches:
    """Six batches of eight images."""
    return batches(6)
