"""The terms of the IMF loss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from imf_deploy.method.branches import BranchOutputs, Target
from imf_deploy.settings import LossSettings
from imf_deploy.settings.distill import Distance
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.tasks.task import Task


def depth_weights(branches: int, power: float) -> list[float]:
    """Return ``i ** power`` of the branches ``i`` from 1, scaled to a mean of 1 (ours).

    What a few blocks can say about the teacher's last map is little, and an early branch that has to try
    harder classifies worse; a late one does better for it.
    """
    raised = [index**power for index in range(1, branches + 1)]
    return [value * branches / sum(raised) for value in raised]


def feature_distance(features: Tensor, target: Tensor, power: Tensor, kind: Distance = "power") -> Tensor:
    """Return the mean squared distance to the teacher's map (which normalisation: ours).

    Args:
        features: ``[N, C, H, W]``.
        target: The teacher's map in the same shape.
        power: Mean square of each of its channels over the whole batch, ``[C]``; ``target`` may be a part.
        kind: ``power`` divides by the mean square of the whole target, which keeps ``alpha``
            independent of the teacher's scale; ``channel`` divides each channel by its own; ``l2``
            compares maps of unit length, an image at a time, and sums; ``raw`` does none of it.
    """
    features = features.float()
    if kind == "l2":
        apart = functional.normalize(features.flatten(1)) - functional.normalize(target.flatten(1))
        return apart.square().sum(1).mean()
    if kind == "channel":
        # Channels that are all but silent would count most.
        least = (0.01 * power.mean().double()).clamp_min(1e-6).to(power.dtype)
        scale = power.maximum(least).rsqrt()[:, None, None]
        features, target = features * scale, target * scale
    distance: Tensor = _MeanSquare.apply(features, target)
    return distance / power.mean().clamp_min(1e-6) if kind == "power" else distance


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
        maps: One of its feature maps ``[N, C, H, H]`` for each :data:`Target` of the branches. A
            student map that is smaller is compared with the averaged teacher map (ours).
        powers: Mean square of each channel of these over the whole batch, ``[C]``.
    """

    logits: Tensor
    maps: dict[Target, Tensor]
    powers: dict[Target, Tensor]

    @classmethod
    def of(cls, logits: Tensor, features: Sequence[Tensor], targets: Iterable[Target]) -> TeacherOutputs:
        """Take logits and feature maps, ``[N, C, H', W']`` each, of a whole batch."""
        maps = {}
        for index, side in sorted(set(targets)):
            whole = features[index].float()
            fits = whole.shape[-2:] == (side, side)
            maps[index, side] = whole if fits else functional.adaptive_avg_pool2d(whole, side)
        return cls(logits, maps, {key: target.square().mean((0, 2, 3)) for key, target in maps.items()})


def imf_losses(
    logits: Tensor,
    branches: BranchOutputs,
    targets: Sequence[Target],
    teacher: TeacherOutputs,
    labels: Tensor,
    weights: LossSettings,
    label_smoothing: float = 0.0,
    task: Task = CLASSIFICATION,
) -> dict[str, Tensor]:
    """Return the weighted terms of the IMF loss; their sum is minimised.

    ``CE(own) + beta * [KL(own) + mean KL(z_i) + mean KL(z^(k))] + alpha * mean w_i D_i``, with
    ``w`` of :func:`depth_weights`. The paper gives two weights; that the branches and every prefix have a
    loss of their own, that they are averaged over the branches, and ``w`` are ours.

    Args:
        logits: The student's own head, ``[N, classes]``.
        branches: What the branches say.
        targets: Which of the teacher's maps each branch is compared with.
        teacher: What the teacher says.
        labels: ``int64 [N]``, or probabilities ``[N, classes]``.
        weights: Of the terms, and the temperature.
        label_smoothing: Part of a label's weight that all classes share.
        task: Whose losses the supervised and the imitating terms are.
    """
    beta, temperature = weights.beta, weights.temperature
    distances = [
        weight * feature_distance(features, teacher.maps[target], teacher.powers[target], weights.distance)
        for weight, features, target in zip(
            depth_weights(len(targets), weights.depth), branches.features, targets, strict=True
        )
    ]
    return {
        "cross_entropy": task.loss(logits, labels, label_smoothing),
        "student_kd": beta * task.imitation(logits, teacher.logits, temperature),
        "branch_kd": beta * weights.branches * task.imitation(branches.logits, teacher.logits, temperature),
        "prefix_kd": beta
        * weights.prefixes
        * task.imitation(branches.attentive, teacher.logits, temperature),
        "feature": weights.alpha * torch.stack(distances).mean(),
    }
