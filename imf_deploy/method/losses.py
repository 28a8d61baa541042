"""The terms of the IMF loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from imf_deploy import defaults
from imf_deploy.errors import UsageError
from imf_deploy.method.branches import BranchOutputs


@dataclass(frozen=True)
class LossWeights:
    """The two weights of the loss (the paper's Eq. 5) and the temperature.

    Attributes:
        alpha: Weight of the distance between features.
        beta: Weight of the divergence between softened logits.
        temperature: Both sides' logits are divided by it (Hinton et al. 2015). The usual factor of
            its square is left out (ours), so that ``beta`` keeps its meaning.
    """

    alpha: float = defaults.ALPHA
    beta: float = defaults.BETA
    temperature: float = defaults.TEMPERATURE

    def check(self) -> None:
        """Refuse values that no training can use.

        Raises:
            UsageError: naming the option.
        """
        if not self.alpha >= 0 or not self.beta >= 0 or not self.temperature > 0:
            raise UsageError("--alpha and --beta must be at least 0, --temperature above 0")


def distillation(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return KL(teacher || student) of softened probabilities, in nats per image.

    Args:
        logits: ``[..., classes]``.
        teacher_logits: ``[N, classes]``; broadcast over the leading dimensions of ``logits``.
        temperature: Divides both.
    """
    target = (teacher_logits.float() / temperature).log_softmax(-1).expand_as(logits)
    student = (logits.float() / temperature).log_softmax(-1)
    images = logits[..., 0].numel()
    return functional.kl_div(student, target, reduction="sum", log_target=True) / images


def feature_distance(features: Tensor, teacher_features: Tensor) -> Tensor:
    """Return the squared distance to the teacher's map, relative to that map's own power (ours).

    Dividing by the mean square of the target keeps ``alpha`` independent of the teacher's scale. A
    student map that is smaller is compared with the averaged teacher map (ours).

    Args:
        features: ``[N, C, H, W]``.
        teacher_features: ``[N, C, H', W']``, ``H'`` at least ``H``.
    """
    target = functional.adaptive_avg_pool2d(
        teacher_features.float(), (features.shape[-2], features.shape[-1])
    )
    return functional.mse_loss(features.float(), target) / target.square().mean().clamp_min(1e-6)


def imf_losses(
    logits: Tensor,
    branches: BranchOutputs,
    teacher_logits: Tensor,
    teacher_features: Tensor,
    labels: Tensor,
    weights: LossWeights,
) -> dict[str, Tensor]:
    """Return the weighted terms of the IMF loss; their sum is minimised.

    ``CE(own) + beta * [KL(own) + mean KL(z_i) + mean KL(z^(k))] + alpha * mean D_i``. The paper
    gives two weights; that the branches and every prefix have a loss of their own, and that they
    are averaged over the branches, is ours.

    Args:
        logits: The student's own head, ``[N, classes]``.
        branches: What the branches say.
        teacher_logits: ``[N, classes]``.
        teacher_features: The teacher's last map, ``[N, C, H, W]``.
        labels: ``int64 [N]``.
        weights: alpha, beta and the temperature.
    """
    beta, temperature = weights.beta, weights.temperature
    distances = [feature_distance(f, teacher_features) for f in branches.features]
    return {
        "cross_entropy": functional.cross_entropy(logits.float(), labels),
        "student_kd": beta * distillation(logits, teacher_logits, temperature),
        "branch_kd": beta * distillation(branches.logits, teacher_logits, temperature),
        "prefix_kd": beta * distillation(branches.attentive, teacher_logits, temperature),
        "feature": weights.alpha * torch.stack(distances).mean(),
    }
