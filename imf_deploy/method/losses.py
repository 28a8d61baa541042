"""The terms of the IMF loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

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


def feature_distance(features: Tensor, target: Tensor, power: Tensor) -> Tensor:
    """Return the squared distance to the teacher's map, relative to that map's own power (ours).

    Dividing by the mean square of the target keeps ``alpha`` independent of the teacher's scale.

    Args:
        features: ``[N, C, H, W]``.
        target: The teacher's map in the same shape.
        power: Its mean square over the whole batch, of which ``target`` may be a part.
    """
    distance: Tensor = _MeanSquare.apply(features.float(), target)
    return distance / power.clamp_min(1e-6)


class _MeanSquare(torch.autograd.Function):
    """``mse_loss`` whose gradient lies in memory as its input does.

    PyTorch's own is contiguous, and in a channels-last network the backward pass of the ReLU before
    it then takes several times as long.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, target: Tensor) -> Tensor:
        difference = features - target
        ctx.save_for_backward(difference)
        return difference.square().mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors
        return difference * (gradient * (2 / difference.numel())), None


@dataclass(frozen=True)
class TeacherOutputs:
    """What the teacher says about a batch, or about a part of one.

    Attributes:
        logits: ``[N, classes]``.
        maps: Its last feature map ``[N, C, H, H]`` for each side ``H`` that the student's maps have.
            A student map that is smaller is compared with the averaged teacher map (ours).
        powers: Mean square of each of these over the whole batch.
    """

    logits: Tensor
    maps: dict[int, Tensor]
    powers: dict[int, Tensor]

    @classmethod
    def of(cls, logits: Tensor, features: Tensor, sides: Iterable[int]) -> TeacherOutputs:
        """Take logits and the last feature map, ``[N, C, H', W']``, of a whole batch."""
        features = features.float()
        maps = {
            side: features
            if features.shape[-2:] == (side, side)
            else functional.adaptive_avg_pool2d(features, side)
            for side in sorted(set(sides))
        }
        return cls(logits, maps, {side: target.square().mean() for side, target in maps.items()})


def imf_losses(
    logits: Tensor,
    branches: BranchOutputs,
    teacher: TeacherOutputs,
    labels: Tensor,
    weights: LossWeights,
    label_smoothing: float = 0.0,
) -> dict[str, Tensor]:
    """Return the weighted terms of the IMF loss; their sum is minimised.

    ``CE(own) + beta * [KL(own) + mean KL(z_i) + mean KL(z^(k))] + alpha * mean D_i``. The paper
    gives two weights; that the branches and every prefix have a loss of their own, and that they
    are averaged over the branches, is ours.

    Args:
        logits: The student's own head, ``[N, classes]``.
        branches: What the branches say.
        teacher: What the teacher says.
        labels: ``int64 [N]``, or probabilities ``[N, classes]``.
        weights: alpha, beta and the temperature.
        label_smoothing: Part of a label's weight that all classes share.
    """
    beta, temperature = weights.beta, weights.temperature
    distances = [
        feature_distance(f, teacher.maps[f.shape[-1]], teacher.powers[f.shape[-1]]) for f in branches.features
    ]
    return {
        "cross_entropy": functional.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing),
        "student_kd": beta * distillation(logits, teacher.logits, temperature),
        "branch_kd": beta * distillation(branches.logits, teacher.logits, temperature),
        "prefix_kd": beta * distillation(branches.attentive, teacher.logits, temperature),
        "feature": weights.alpha * torch.stack(distances).mean(),
    }
