"""Re-fit the linear heads of a trained network, and keep each that validation does not speak against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imf_deploy.data import DataSet
from imf_deploy.data.batches import TrainLoader, eval_batches
from imf_deploy.method.branches import TrainingGraph
from imf_deploy.method.losses import LossWeights
from imf_deploy.method.refit import refit
from imf_deploy.progress import say
from imf_deploy.train.config import TrainConfig
from imf_deploy.train.heads import Head, OwnHead, branch_heads

PASSES = 2
"""Over the training split, at most; each view is a new one where pictures are changed at random."""
FLOATS = 16_000_000
"""Bound on the features that are kept at once, whatever the size of the data set: 64 MB."""

Features = dict[str, Tensor]
"""Inputs of heads ``[N, D]`` by name."""


@dataclass(frozen=True)
class Refitted:
    """What became of one head.

    Attributes:
        head: Its name.
        before: Validation accuracy from 0 to 1; nothing without a validation split.
        after: The same, re-fitted.
        kept: Whether the re-fitted head is taken: unless it is less accurate.
    """

    head: str
    before: float | None
    after: float | None
    kept: bool


def refit_heads(
    heads: Sequence[Head],
    see: Callable[[Tensor], Features],
    teach: Callable[[Tensor], Tensor],
    data: DataSet,
    config: TrainConfig,
    weights: LossWeights,
    device: torch.device,
) -> list[Refitted]:
    """Re-fit heads on training images and keep those that validation does not speak against.

    The images are those that epochs after the last would bring. Their number is bounded, so memory
    does not grow with the data set.

    Args:
        heads: Which.
        see: Images ``[N, 3, S, S]`` to the features of the heads; the network is in evaluation mode.
        teach: Images to the teacher's logits ``[N, classes]``.
        data: Training and validation splits.
        config: Settings of the training that is over.
        weights: ``beta`` and the temperature.
        device: Where the networks are.
    """
    if not heads:
        return []
    loader = TrainLoader(
        data.train,
        data.preprocess,
        config.batch_size,
        config.augmentation(data.preprocess.size),
        config.seed,
        device=device,
    )
    seen: list[Features] = []
    taught: list[Tensor] = []
    labels: list[Tensor] = []
    kept = 0
    with torch.no_grad():
        for number in range(PASSES):
            for images, classes in loader.epoch(config.epochs + number):
                if kept >= FLOATS:
                    break
                seen.append(see(images))
                taught.append(teach(images).float())
                labels.append(classes)
                kept += sum(features.numel() for features in seen[-1].values())
        known = [(see(images.to(device)), classes) for images, classes in _validation(data)]
    features = {name: torch.cat([each[name] for each in seen]) for name in seen[0]}
    return [
        _refit_one(head, features[head.source], torch.cat(taught), torch.cat(labels), known, config, weights)
        for head in heads
    ]


def _validation(data: DataSet) -> Sequence[tuple[Tensor, Tensor]]:
    return list(eval_batches(data.validation, data.preprocess)) if len(data.validation) else []


def _refit_one(
    head: Head,
    features: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    known: Sequence[tuple[Features, Tensor]],
    config: TrainConfig,
    weights: LossWeights,
) -> Refitted:
    width = head.start[0].shape[1]
    found = refit(features[:, :width], teacher_logits, labels, head.start, weights, config.label_smoothing)

    def accuracy(weight: Tensor, bias: Tensor) -> float | None:
        right = [
            nn.functional.linear(its[head.source][:, :width], weight, bias).argmax(1).cpu() == classes
            for its, classes in known
        ]
        return float(torch.cat(right).double().mean()) if right else None

    before, after = accuracy(*head.start), accuracy(*found)
    result = Refitted(head.name, before, after, before is None or after is None or after >= before)
    if result.kept:
        head.keep(*found)
    return result


def refit_student(
    network: nn.Module,
    teach: Callable[[Tensor], Tensor],
    data: DataSet,
    config: TrainConfig,
    weights: LossWeights,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Re-fit the head of a network without branches; see :func:`refit_distilled`."""
    own = OwnHead(network.eval(), example(data).to(device))

    def see(images: Tensor) -> Features:
        network(images)
        return {"own": own.features}

    try:
        return _told(refit_heads(own.head(), see, teach, data, config, weights, device))
    finally:
        own.close()


def refit_distilled(
    graph: TrainingGraph,
    teach: Callable[[Tensor], Tensor],
    data: DataSet,
    config: TrainConfig,
    weights: LossWeights,
    plain: bool = True,
) -> list[dict[str, Any]]:
    """Re-fit the heads of a distilled student, on the device that it is on.

    Args:
        graph: Student and branches; left in evaluation mode.
        teach: Images ``[N, 3, S, S]`` to the teacher's logits ``[N, classes]``.
        data: Training and validation splits.
        config: Settings of the training that is over.
        weights: ``beta`` and the temperature.
        plain: Whether the student's own head is re-fitted too, beside that of each ``imf@k``.

    Returns:
        A record for each head: see :class:`Refitted`.
    """
    device = graph.imf.attention.device
    own = OwnHead(graph.eval().student, example(data).to(device))

    def see(images: Tensor) -> Features:
        _, pooled = graph.pooled(images)
        return {"own": own.features, "branches": torch.cat(pooled, 1)}

    try:
        heads = (own.head() if plain else []) + branch_heads(graph)
        return _told(refit_heads(heads, see, teach, data, config, weights, device))
    finally:
        own.close()


def example(data: DataSet) -> Tensor:
    """Return two training images, ``[2, 3, S, S]``."""
    return next(eval_batches(data.train.subset(torch.arange(2)), data.preprocess))[0]


def _told(found: list[Refitted]) -> list[dict[str, Any]]:
    changes = [f"{each.head} {each.before:.2%} -> {each.after:.2%}" for each in found if each.before]
    say("Heads re-fitted" + (f", validation accuracy: {', '.join(changes)}" if changes else ""))
    return [asdict(each) for each in found]
