"""Logit standardisation, and multi-level logit distillation with and without it."""

from typing import Any

import torch
from torch import Tensor, nn

from imf_deploy.models import only_logits
from imf_deploy.study.rivals.kd import Taught
from imf_deploy.tasks.classification import CLASSIFICATION

TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)
"""Temperatures of multi-level logit distillation, from the authors' code."""
_LEAST = 1e-12
"""Added to the variance of logits, which may all be equal."""


def standardised(logits: Tensor) -> Tensor:
    """Return logits ``[N, classes]`` with the mean 0 and the standard deviation 1 in every row.

    Source: Sun et al. 2024, "Logit Standardization in Knowledge Distillation", algorithm 1, whose temperature
    divides the result.
    """
    centred = logits.float() - logits.float().mean(1, keepdim=True)
    return centred * (centred.square().mean(1, keepdim=True) + _LEAST).rsqrt()


def levels(
    logits: Tensor, teacher_logits: Tensor, temperatures: tuple[float, ...] = TEMPERATURES
) -> tuple[Tensor, Tensor]:
    """Return the losses on whole batches of multi-level logit distillation, summed over the temperatures.

    Source: Jin et al. 2023, "Multi-level Logit Distillation". With ``P = softmax(z / T)``, ``[N, classes]``,
    they are ``|P_s P_s' - P_t P_t'|^2 / N`` and ``|P_s' P_s - P_t' P_t|^2 / classes`` in Frobenius norms.

    Args:
        logits: The student's, ``[N, classes]``.
        teacher_logits: ``[N, classes]``.
        temperatures: The temperatures.

    Returns:
        The batch level, which compares the similarities between images; and the class level, which compares
        those between classes.
    """
    batch, classes = [], []
    for temperature in temperatures:
        mine, its = ((z.float() / temperature).softmax(1) for z in (logits, teacher_logits))
        batch.append((mine @ mine.T - its @ its.T).square().sum() / len(mine))
        classes.append((mine.T @ mine - its.T @ its).square().sum() / mine.shape[1])
    return torch.stack(batch).sum(), torch.stack(classes).sum()


def softened(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return KD's divergence in nats per image, with the factor of the squared temperature."""
    return temperature**2 * CLASSIFICATION.imitation(logits, teacher_logits, temperature)


class StandardisedKd(Taught):
    """KD between standardised logits (Sun et al. 2024): the student need not match the teacher's range.

    Settings: ``labels``, the weight of the cross-entropy; ``kd``, that of the divergence, which has the
    factor of the squared ``temperature``. Those of the authors' code on CIFAR-100 are 0.1, 9 and 2.
    """

    def losses(self, network: nn.Module, images: Tensor, labels: Tensor, target: Any) -> dict[str, Tensor]:
        """Return the terms for teacher logits ``[N, classes]``."""
        logits, settings = only_logits(self.student, network(images)), self._settings
        divergence = softened(standardised(logits), standardised(target), settings["temperature"])
        return {
            "cross_entropy": settings["labels"] * self.supervised(logits, labels),
            "kd": settings["kd"] * divergence,
        }


class Mlkd(Taught):
    """Multi-level logit distillation (Jin et al. 2023): divergences at five temperatures, and :func:`levels`.

    Settings: ``labels``, the weight of the cross-entropy; ``instance``, that of the divergences; and
    ``relations``, that of the batch and the class level. They are 0.1, 0.9 and 0.9 in the authors' code for
    CIFAR-100, with half the usual learning rate. The two levels grow with the images of a class in a batch:
    they are about ten and a hundred times as large with 10 classes, which need a smaller weight. That code
    also trains on a second, strongly augmented view of each image, and for twice the epochs. Here all methods
    see the same images equally often, so there is one view, and no mask that depends on the other.
    """

    def losses(self, network: nn.Module, images: Tensor, labels: Tensor, target: Any) -> dict[str, Tensor]:
        """Return the terms for teacher logits ``[N, classes]``."""
        logits, settings = only_logits(self.student, network(images)), self._settings
        mine, its = self.prepared(logits), self.prepared(target)
        instance = torch.stack([softened(mine, its, temperature) for temperature in TEMPERATURES]).sum()
        batch, classes = levels(logits, target)
        return {
            "cross_entropy": settings["labels"] * self.supervised(logits, labels),
            "instance_level": settings["instance"] * instance,
            "batch_level": settings["relations"] * batch,
            "class_level": settings["relations"] * classes,
        }

    def prepared(self, logits: Tensor) -> Tensor:
        """Return the logits that the divergences are between."""
        return logits


class StandardisedMlkd(Mlkd):
    """MLKD whose divergences are between standardised logits (Sun et al. 2024).

    Settings: those of :class:`Mlkd`, with 9 for ``instance`` and ``relations`` in the authors' code.
    """

    def prepared(self, logits: Tensor) -> Tensor:
        """Return standardised logits."""
        return standardised(logits)
