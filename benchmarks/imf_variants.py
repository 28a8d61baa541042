"""Variants of the branches of IMF for benchmarks/imf_trials.py; the library has only the first of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from imf_deploy.distillation import imf_task
from imf_deploy.method import budget
from imf_deploy.method.branches import BranchOutputs, ImfBranches
from imf_deploy.method.losses import TeacherOutputs, imf_losses
from imf_deploy.settings import LossSettings

Losses = Callable[..., dict[str, Tensor]]
Extra = Callable[[BranchOutputs, TeacherOutputs, Tensor, LossSettings], dict[str, Tensor]]


def divergence(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the mean KL divergence of each branch: ``[n, N, C]`` -> ``[n]``."""
    right = (target / temperature).softmax(-1).expand_as(logits)
    return functional.kl_div((logits / temperature).log_softmax(-1), right, reduction="none").sum(-1).mean(-1)


def changed(change: Extra) -> Losses:
    """Return the losses of the library with some of the terms replaced or raised."""

    def losses(
        logits: Tensor,
        branches: BranchOutputs,
        targets: Any,
        teacher: TeacherOutputs,
        labels: Tensor,
        weights: LossSettings,
        *others: Any,
    ) -> dict[str, Tensor]:
        terms = imf_losses(logits, branches, targets, teacher, labels, weights, *others)
        return terms | change(branches, teacher, labels, weights)

    return losses


def both(term: Callable[[Tensor, Tensor, float], Tensor], factor: float = 1.0) -> Losses:
    """Return losses whose branches and prefixes imitate the teacher by another term."""
    return changed(
        lambda its, teacher, _labels, weights: {
            "branch_kd": weights.beta * factor * term(its.logits, teacher.logits, weights.temperature),
            "prefix_kd": weights.beta * factor * term(its.attentive, teacher.logits, weights.temperature),
        }
    )


def standardised(logits: Tensor, target: Tensor, _temperature: float) -> Tensor:
    """Compare logits of mean 0 and standard deviation 1 (Sun et al. 2024)."""
    spread = [(z - z.mean(-1, keepdim=True)) / (z.std(-1, keepdim=True) + 1e-7) for z in (logits, target)]
    return divergence(spread[0], spread[1]).mean()


def correlated(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Compare by correlation within each image and within each class (DIST, Huang et al. 2022)."""
    ours, theirs = (logits / temperature).softmax(-1), (target / temperature).softmax(-1).expand_as(logits)
    apart = torch.zeros(())
    for dim in (-1, -2):
        a, b = (each - each.mean(dim, keepdim=True) for each in (ours, theirs))
        apart = apart + (1 - functional.cosine_similarity(a, b, dim=dim)).mean()
    return apart


def deeper(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Weight branch ``i`` by ``i``, with a mean weight of 1."""
    weight = torch.arange(1.0, len(logits) + 1)
    return (weight / weight.mean() * divergence(logits, target, temperature)).mean()


def from_the_last(
    its: BranchOutputs, teacher: TeacherOutputs, _labels: Tensor, weights: LossSettings
) -> dict[str, Tensor]:
    """Let all prefixes also learn from the longest one (self-distillation, Zhang et al. 2019)."""
    heat = weights.temperature
    own = divergence(its.attentive[:-1], its.attentive[-1].detach(), heat).mean()
    return {"prefix_kd": weights.beta * (divergence(its.attentive, teacher.logits, heat).mean() + own / 2)}


class Projectors(nn.Module):
    """Three projections with ReLU, averaged (projector ensembles, Chen et al. 2022)."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(channels, outputs, 1, bias=False) for _ in range(3))

    def forward(self, features: Tensor) -> Tensor:
        """``[N, channels, H, W]`` -> ``[N, outputs, H, W]``."""
        return torch.stack([part(features).relu() for part in self.parts]).mean(0)


class EnsembleBranches(ImfBranches):
    """Branches with ensembles of projectors."""

    def __init__(self, blocks: Any, teacher_features: Any, *others: Any) -> None:
        super().__init__(blocks, teacher_features, *others)
        pairs = zip(self.shapes, teacher_features, strict=True)
        self.projectors = nn.ModuleList(Projectors(shape.outputs, its.channels) for shape, its in pairs)


@dataclass(frozen=True)
class Variant:
    """A variant of the branches.

    Attributes:
        settings: Changed settings.
        losses: Losses in place of the library's.
        branches: Branches in place of the library's.
        room: Least part of the student that is left after the last block.
        half: Whether IFDs work at half the teacher's resolution.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    losses: Losses = imf_losses
    branches: type[ImfBranches] = ImfBranches
    room: float = budget.ROOM
    half: bool = False


VARIANTS = {
    "budget": Variant(),
    "no-budget": Variant({"budget": 0}),
    "kd": Variant({"alpha": 0, "branches": 0, "prefixes": 0}),
    "half-resolution": Variant(half=True),
    "more-room": Variant(room=0.25),
    "standardised": Variant(losses=both(standardised)),
    "dist": Variant(losses=both(correlated, 0.1)),
    "deeper": Variant(losses=both(deeper)),
    "self": Variant(losses=changed(from_the_last)),
    "projectors": Variant(branches=EnsembleBranches),
}


FULL = budget.full_shapes


def halved(blocks: Any, features: Any, refining: Any) -> Any:
    """Return IFDs of full width at half the teacher's resolution."""
    return [replace(shape, side=-(-shape.side // 2)) for shape in FULL(blocks, features, refining)]


def use(variant: Variant) -> None:
    """Let the library train a variant from now on."""
    task: Any = imf_task
    task.imf_losses, task.ImfBranches = variant.losses, variant.branches
    budget.ROOM = variant.room
    budget.full_shapes = halved if variant.half else FULL
