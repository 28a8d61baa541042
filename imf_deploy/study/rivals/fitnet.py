"""Hints: a regressor from a middle block of the student to one of the teacher."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from imf_deploy.method.branches import Taps
from imf_deploy.method.losses import feature_distance
from imf_deploy.models import Block, ModelSpec, find_blocks, student_blocks
from imf_deploy.study.rivals.kd import Kd, Settings
from imf_deploy.teaching.teacher import Teacher


class _Hinted(nn.Module):
    """A student whose middle block is mapped to the teacher's by a regressor beside it."""

    def __init__(self, student: nn.Module, block: Block, channels: int) -> None:
        super().__init__()
        self.student = student
        self.regressor = nn.Sequential(
            nn.Conv2d(block.channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.taps = Taps(student, [block])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, (features,) = self.taps.run(images)
        return logits, self.regressor(features)


class FitNet(Kd):
    """Hints (Romero et al. 2015): KD, and a regressor from a middle block to the teacher's middle one.

    It is trained in one stage, with a regressor of 1x1 convolution, batch norm and ReLU, as in Tian et al.
    2019, and with the KD term of Romero's second stage. The distance is relative to the power of the
    teacher's map, as for IMF, so that one weight fits all teachers.

    Settings: those of :class:`Kd`, and ``hint``, the weight of the distance.
    """

    def __init__(self, spec: ModelSpec, teacher: Teacher, settings: Settings) -> None:
        super().__init__(spec, teacher, settings)
        its = find_blocks(teacher.module, spec.image_size)
        self._hint = its[(len(its) - 1) // 2]
        mine = min(
            student_blocks(self.student, spec), key=lambda block: abs(block.sides[0] - self._hint.sides[0])
        )
        (height, width), (its_height, its_width) = mine.sides, self._hint.sides
        self._sides = min(height, its_height), min(width, its_width)
        hinted = _Hinted(self.student, mine, self._hint.channels)
        self._taps = Taps(teacher.module, [self._hint])
        self.module = hinted.to(memory_format=torch.channels_last)

    def targets(self, parts: Sequence[Tensor]) -> Sequence[Any]:
        """Return the teacher's logits and its middle map ``[N, C, H, W]`` for each part."""
        with torch.no_grad():
            outputs = [self._teacher.look(images, self._taps) for images in parts]
            return [(logits, self._to_sides(features.float())) for logits, features in outputs]

    def losses(self, network: nn.Module, images: Tensor, labels: Tensor, target: Any) -> dict[str, Tensor]:
        """Return the terms for the values of :meth:`targets`."""
        teacher_logits, its = target
        logits, mapped = network(images)
        power = its.square().mean((0, 2, 3))
        return {
            "cross_entropy": self.supervised(logits, labels),
            "kd": self.softened(logits, teacher_logits),
            "hint": self._settings["hint"] * feature_distance(self._to_sides(mapped), its, power),
        }

    def _to_sides(self, features: Tensor) -> Tensor:
        if features.shape[-2:] == self._sides:
            return features
        return functional.adaptive_avg_pool2d(features, self._sides)
