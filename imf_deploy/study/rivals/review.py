"""ReviewKD: shallow maps of the teacher are learned from deep ones of the student."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from imf_deploy.method.branches import Taps, pool
from imf_deploy.method.losses import feature_distance
from imf_deploy.models import Block, ModelSpec, find_blocks, student_blocks
from imf_deploy.study.rivals.kd import WARMUP, Settings, Taught
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training.task import risen

MOST_CHANNELS = 512
"""Largest number of channels in which maps are fused, from the authors' code."""
Sides = tuple[int, int]


def hierarchical_context_loss(features: Tensor, target: Tensor) -> Tensor:
    """Return the distance of two maps at several scales (HCL), relative to the power of the target.

    Source: Chen et al. 2021, "Distilling Knowledge via Knowledge Review", section 3.3. The mean squared
    difference of the maps has the weight 1, and those of the maps averaged to 4x4, 2x2 and 1x1 have 1/2, 1/4
    and 1/8; the sum is divided by the sum of the weights. A size that is not below the map's is left out. The
    division by the mean square of the target is ours, as for FitNet and IMF: a weight then has the same
    meaning for every teacher. The authors' code compares maps before the last ReLU of a stage; those here are
    the outputs of blocks.

    Args:
        features: The student's, ``[N, C, H, W]``.
        target: The teacher's in the same shape.
    """
    power = target.square().mean((0, 2, 3))
    terms, weights = [feature_distance(features, target, power)], [1.0]
    for side in (4, 2, 1):
        if side < min(target.shape[-2:]):
            mine, its = (functional.adaptive_avg_pool2d(maps, side) for maps in (features, target))
            weights.append(weights[-1] / 2)
            terms.append(weights[-1] * feature_distance(mine, its, power))
    return torch.stack(terms).sum() / sum(weights)


class Fusion(nn.Module):
    """Attention-based fusion of a map of the student with the fused deeper ones (ABF).

    Source: Chen et al. 2021, section 3.3. ``x`` is mapped to the shared number of channels by a 1x1
    convolution and batch norm, the deeper map ``y`` is enlarged to its size, and two attention maps ``a, b``
    with values from 0 to 1 are computed from both; ``a x + b y`` is the fused map. A 3x3 convolution and
    batch norm then map it, at the teacher's size, to the teacher's channels.

    Args:
        channels: Channels of the student's map.
        shared: Channels of the fused maps.
        outputs: Channels of the teacher's map.
        sides: Height and width of the teacher's map.
        deepest: Whether there is no deeper map.
    """

    def __init__(self, channels: int, shared: int, outputs: int, sides: Sides, deepest: bool) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(channels, shared, 1, bias=False), nn.BatchNorm2d(shared))
        self.attention = None if deepest else nn.Sequential(nn.Conv2d(2 * shared, 2, 1), nn.Sigmoid())
        self.expand = nn.Sequential(
            nn.Conv2d(shared, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
        )
        self._sides = sides

    def forward(self, features: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the map that is compared with the teacher's, and the fused one for the next block."""
        fused: Tensor = self.reduce(features)
        if self.attention is not None and deeper is not None:
            deeper = _resized(deeper, fused.shape[-2:])
            weights = self.attention(torch.cat([fused, deeper], 1))
            fused = fused * weights[:, :1] + deeper * weights[:, 1:]
        fused = _resized(fused, self._sides)
        return self.expand(fused), fused


def _resized(maps: Tensor, sides: Sequence[int]) -> Tensor:
    return maps if maps.shape[-2:] == (*sides,) else functional.interpolate(maps, (*sides,))


class _Reviewed(nn.Module):
    """A student with a fusion for each of its maps, from the deepest to the shallowest."""

    def __init__(self, student: nn.Module, mine: Sequence[Block], its: Sequence[Block]) -> None:
        super().__init__()
        self.student = student
        self.taps = Taps(student, mine)
        shared = min(MOST_CHANNELS, mine[-1].channels)
        levels = [(mine[-1].channels, its[-1].channels, (1, 1))]  # the pooled maps
        levels += [(m.channels, t.channels, t.sides) for m, t in zip(mine[::-1], its[::-1], strict=True)]
        self.fusions = nn.ModuleList(
            Fusion(channels, shared, outputs, sides, deepest=place == 0)
            for place, (channels, outputs, sides) in enumerate(levels)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits, and for each level, the deepest first, the map to compare."""
        logits, maps = self.taps.run(images)
        outputs: list[Tensor] = []
        fused = None
        for fusion, features in zip(self.fusions, by_level(maps), strict=True):
            output, fused = fusion(features, fused)
            outputs.append(output)
        return logits, outputs


def by_level(maps: Sequence[Tensor]) -> list[Tensor]:
    """Return maps in the order of the levels: the last one pooled, ``[N, C, 1, 1]``, then all, last first."""
    return [pool(maps[-1])[:, :, None, None], *reversed(maps)]


class ReviewKd(Taught):
    """Knowledge review (Chen et al. 2021): labels, and the teacher's maps from fused ones of the student.

    The last blocks of both networks are paired from the end, as many as both have, and their pooled last maps
    as one more level. The weight rises over the first twelfth of the training.

    Settings: ``review``, the weight of :func:`hierarchical_context_loss`, summed over the levels. That of the
    authors' scripts for CIFAR-100 is 5 for most pairs, and from 0.6 to 8 for the others.
    """

    def __init__(self, spec: ModelSpec, teacher: Teacher, settings: Settings) -> None:
        super().__init__(spec, teacher, settings)
        mine = student_blocks(self.student, spec)
        its = find_blocks(teacher.module, spec.image_size)
        count = min(len(mine), len(its))
        self._taps = Taps(teacher.module, its[-count:])
        reviewed = _Reviewed(self.student, mine[-count:], its[-count:])
        self.module = reviewed.to(memory_format=torch.channels_last)

    def targets(self, parts: Sequence[Tensor]) -> Sequence[Any]:
        """Return the teacher's maps ``[N, C, H, W]`` for each part, the deepest first."""
        with torch.no_grad():
            looks = [self._teacher.look(images, self._taps)[1:] for images in parts]
            return [by_level([features.float() for features in maps]) for maps in looks]

    def losses(self, network: nn.Module, images: Tensor, labels: Tensor, target: Any) -> dict[str, Tensor]:
        """Return the terms for the values of :meth:`targets`."""
        logits, outputs = network(images)
        distances = [hierarchical_context_loss(*pair) for pair in zip(outputs, target, strict=True)]
        weight = risen(self.progress, WARMUP) * self._settings["review"]
        return {
            "cross_entropy": self.supervised(logits, labels),
            "review": weight * torch.stack(distances).sum(),
        }
