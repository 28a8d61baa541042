"""Methods that IMF is compared with, as tasks of the same training loop: cross-entropy, KD, hints, DKD."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from imf_deploy.method.branches import Taps
from imf_deploy.method.losses import feature_distance
from imf_deploy.models import Block, ModelSpec, build_model, find_blocks, only_logits, student_blocks
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training.supervised import Supervised
from imf_deploy.training.task import risen


def decoupled_distillation(
    logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return the two parts of decoupled knowledge distillation (DKD), in nats per image.

    Source: Zhao et al. 2022, "Decoupled Knowledge Distillation", equations 5 to 7. Both carry the
    factor of the squared temperature, as the authors' own code does.

    Args:
        logits: The student's, ``[N, classes]``.
        teacher_logits: ``[N, classes]``.
        labels: ``int64 [N]``.
        temperature: Divides both sides' logits.

    Returns:
        TCKD, the divergence between target and non-target probabilities, and NCKD, the divergence among the
        non-target classes.
    """
    mine, its = (z.float() / temperature for z in (logits, teacher_logits))
    columns = torch.arange(logits.shape[1] - 1, device=logits.device)
    wrong = columns + (columns >= labels[:, None])

    def binary(scaled: Tensor) -> Tensor:
        log = scaled.log_softmax(1)
        return torch.stack([log.gather(1, labels[:, None])[:, 0], log.gather(1, wrong).logsumexp(1)], 1)

    def others(scaled: Tensor) -> Tensor:
        return scaled.gather(1, wrong).log_softmax(1)

    def divergence(student: Tensor, teacher: Tensor) -> Tensor:
        return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2

    return divergence(binary(mine), binary(its)), divergence(others(mine), others(its))


Settings = Mapping[str, float]
DKD_WARMUP = 1 / 12
"""Part of the training in which DKD's weight rises: 20 of 240 epochs (Zhao et al. 2022)."""


class CrossEntropy(Supervised):
    """Cross-entropy: the student learns the labels alone.

    Args:
        spec: The student; it starts from the same weights as IMF's student with the same seed.
        teacher: Not used.
        settings: ``label_smoothing``.
    """

    def __init__(self, spec: ModelSpec, teacher: Teacher, settings: Settings) -> None:
        self.student = build_model(spec).to(memory_format=torch.channels_last)
        super().__init__(self.student, settings.get("label_smoothing", 0.0))
        self._teacher = teacher
        self._settings = settings

    def predict(self, images: Tensor) -> Tensor:
        """Return the student's logits, without the outputs of modules that are trained beside it."""
        return only_logits(self.student, self.student(images))


class Kd(CrossEntropy):
    """Knowledge distillation (Hinton et al. 2015): labels and the teacher's softened logits.

    Settings: ``beta`` and ``temperature``, with the same meaning as for IMF.
    """

    def targets(self, parts: Sequence[Tensor]) -> Sequence[Any]:
        """Return the teacher's logits for each part."""
        with torch.no_grad():
            return [self._teacher.logits(images) for images in parts]

    def losses(self, network: nn.Module, images: Tensor, labels: Tensor, target: Any) -> dict[str, Tensor]:
        """Return the terms for teacher logits ``[N, classes]``."""
        logits = only_logits(self.student, network(images))
        return {"cross_entropy": self.supervised(logits, labels), "kd": self.softened(logits, target)}

    def softened(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the weighted divergence of softened logits."""
        settings = self._settings
        return settings["beta"] * CLASSIFICATION.imitation(logits, teacher_logits, settings["temperature"])


class Dkd(Kd):
    """Decoupled knowledge distillation (Zhao et al. 2022).

    Settings: ``target`` and ``others``, the weights of its two parts (their alpha and beta), and
    ``temperature``.
    """

    def losses(self, network: nn.Module, images: Tensor, labels: Tensor, target: Any) -> dict[str, Tensor]:
        """Return the terms for teacher logits ``[N, classes]``."""
        logits = only_logits(self.student, network(images))
        settings, rise = self._settings, risen(self.progress, DKD_WARMUP)
        right, others = decoupled_distillation(logits, target, labels, settings["temperature"])
        return {
            "cross_entropy": self.supervised(logits, labels),
            "target_kd": rise * settings["target"] * right,
            "others_kd": rise * settings["others"] * others,
        }


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
