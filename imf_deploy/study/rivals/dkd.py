"""Decoupled knowledge distillation."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from imf_deploy.models import only_logits
from imf_deploy.study.rivals.kd import WARMUP, Taught
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


class Dkd(Taught):
    """Decoupled knowledge distillation (Zhao et al. 2022).

    Settings: ``target`` and ``others``, the weights of its two parts (their alpha and beta), and
    ``temperature``.
    """

    def losses(self, network: nn.Module, images: Tensor, labels: Tensor, target: Any) -> dict[str, Tensor]:
        """Return the terms for teacher logits ``[N, classes]``."""
        logits = only_logits(self.student, network(images))
        settings, rise = self._settings, risen(self.progress, WARMUP)
        right, others = decoupled_distillation(logits, target, labels, settings["temperature"])
        return {
            "cross_entropy": self.supervised(logits, labels),
            "target_kd": rise * settings["target"] * right,
            "others_kd": rise * settings["others"] * others,
        }
