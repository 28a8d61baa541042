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
    """Return ``i ** power`` for the branches ``i`` from 1, scaled to a mean of 1 (ours).

    A few blocks can predict little of the teacher's last map. An early branch that is forced to match it
    better classifies worse, and a late one classifies better.
    """
    raised = [index**power for index in range(1, branches + 1)]
    return [value * branches / sum(raised) for value in raised]


def feature_distance(features: Tensor, target: Tensor, power: Tensor, kind: Distance = "power") -> Tensor:
    """Return the mean squared distance to the teacher's map (the normalisation is ours).

    Args:
        features: ``[N, C, H, W]``.
        target: The teacher's map in the same shape.
        power: Mean square of each of its channels over the whole batch, ``[C]``; ``target`` may be a part of
            it.
        kind: ``power`` divides by the mean square of the whole target, which keeps ``alpha`` independent of
            the teacher's scale; ``channel`` divides each channel by its own; ``l2`` compares maps of unit
            length, for each image, and sums; ``raw`` does not normalise.
    """
    features = features.float()
    if kind == "l2":
        apart = functional.normalize(features.flatten(1)) - functional.normalize(target.flatten(1))
        return apart.square().sum(1).mean()
    if kind == "channel":
        # Channels that are almost silent would count most.
        least = (0.01 * power.mean().double()).clamp_min(1e-6).to(power.dtype)
        scale = power.maximum(least).rsqrt()[:, None, None]
        features, target = features * scale, target * scale
    distance: Tensor = _MeanSquare.apply(features, target)
    return distance / power.mean().clamp_min(1e-6) if kind == "power" else distance


class _MeanSquare(torch.autograd.Function):
    """``mse_loss`` whose gradient has the memory layout of its input.

    PyTorch's own gradient is contiguous, and in a channels-last network the backward pass of the preceding
    ReLU then takes several times as long.
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
    """The teacher's outputs for a batch, or for a part of one.

    Attributes:
        logits: ``[N, classes]``.
        maps: One of its feature maps ``[N, C, H, W]`` for each :data:`Target` of the branches. A smaller
            student map is compared with the averaged teacher map (ours).
        powers: Mean square of each channel of these maps over the whole batch, ``[C]``.
    """

    logits: Tensor
    maps: dict[Target, Tensor]
    powers: dict[Target, Tensor]

    @classmethod
    def of(cls, logits: Tensor, features: Sequence[Tensor], targets: Iterable[Target]) -> TeacherOutputs:
        """Build from logits and feature maps, ``[N, C, H', W']`` each, of a whole batch."""
        maps = {}
        for index, sides in sorted(set(targets)):
            whole = features[index].float()
            fits = whole.shape[-2:] == sides
            maps[index, sides] = whole if fits else functional.adaptive_avg_pool2d(whole, sides)
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

    ``CE(own) + beta * [KL(own) + mean KL(z_i) + mean KL(z^(k))] + alpha * mean w_i D_i``, with ``w`` from
    :func:`depth_weights`. The paper gives the two weights. These parts are ours: the separate losses of the
    branches and of every prefix, their average over the branches, and ``w``.

    Args:
        logits: The student's own head, ``[N, classes]``.
        branches: Outputs of the branches.
        targets: The teacher's map that each branch is compared with.
        teacher: Outputs of the teacher.
        labels: Classes, ``int64 [N]``, or probabilities ``[N, classes]``.
        weights: Weights of the terms, and the temperature.
        label_smoothing: Fraction of a label's weight that all classes share.
        task: The task whose losses the supervised and the imitating terms are.
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
