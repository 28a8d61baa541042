"""Cross-entropy and knowledge distillation, which the other methods extend."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from imf_deploy.models import ModelSpec, build_model, only_logits
from imf_deploy.settings import LossSettings
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training.supervised import Supervised

Settings = Mapping[str, float]
WARMUP = 1 / 12
"""Part of the training in which the weights of DKD and ReviewKD rise: 20 of 240 epochs, as published."""


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

    @property
    def head_loss(self) -> LossSettings:
        """What the student's head is re-fitted to after training, whose ``beta`` and temperature count."""
        return LossSettings(beta=0.0)


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

    @property
    def head_loss(self) -> LossSettings:
        """The method's own term, as for IMF."""
        return LossSettings(beta=self._settings["beta"], temperature=self._settings["temperature"])


class Taught(Kd):
    """A method with a teacher whose terms are not KD's; its head is re-fitted to KD's default loss."""

    @property
    def head_loss(self) -> LossSettings:
        """The default weight and temperature of KD."""
        return LossSettings()
