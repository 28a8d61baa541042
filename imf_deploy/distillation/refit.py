"""Re-fit the linear heads of a trained network, and keep those that do not lose validation accuracy."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing

import torch
from torch import Tensor, nn
from torch.nn import functional

from imf_deploy.data import DataSet
from imf_deploy.data.augment import Augment
from imf_deploy.data.batches import eval_batches
from imf_deploy.data.given import train_loader
from imf_deploy.distillation.heads import Head, OwnHead, branch_heads
from imf_deploy.method.branches import TrainingGraph
from imf_deploy.method.refit import refit
from imf_deploy.progress import say
from imf_deploy.records.making import Refitted
from imf_deploy.settings import LossSettings, TrainingSettings
from imf_deploy.training.weighing import class_weights

PASSES = 2
"""Maximum number of passes over the training split; with augmentation, each view is a new one."""
FLOATS = 32_000_000
"""Maximum number of features and logits in memory, whatever the size of the data set: 128 MB."""
PER_CLASS = 20
"""Minimum number of images per class for a re-fit, if memory does not allow a whole pass."""
BATCH = 128
"""Maximum number of images that are run at once, in one process, however many trained."""

Features = dict[str, Tensor]
"""Inputs of heads ``[N, D]`` by name."""


def refit_heads(
    heads: Sequence[Head],
    see: Callable[[Tensor], Features],
    teach: Callable[[Tensor], Tensor],
    data: DataSet,
    config: TrainingSettings,
    weights: LossSettings,
    device: torch.device,
) -> list[Refitted]:
    """Re-fit heads on training images, and keep those that do not lose validation accuracy.

    The images are those of the last epochs, see :func:`first_refitted`. Their number is bounded, so memory
    does not grow with the data set.

    Args:
        heads: Heads to re-fit.
        see: Maps images ``[N, C, H, W]`` to the features of the heads; the network is in evaluation mode.
        teach: Maps images to the teacher's logits ``[N, classes]``.
        data: Training and validation splits.
        config: Settings of the finished training.
        weights: ``beta`` and the temperature.
        device: Device of the networks.
    """
    if not heads:
        return []
    sources = {head.source for head in heads}
    features, taught, labels = _look(sources, see, teach, data, config, device)
    images, classes = len(labels), data.preprocess.num_classes
    if images + BATCH <= len(data.train) and images < PER_CLASS * classes:
        say(f"Heads are not re-fitted: {images} images fit into memory, too few for {classes} classes")
        return []
    importance = None
    if config.balance == "loss":
        importance = class_weights(data.train.labels, classes).to(labels.device)[labels]
        importance = importance / importance.mean()
    refitted = []
    for head in heads:
        inputs = features[head.source][:, : head.start[0].shape[1]]
        refitted.append(
            refit(inputs, taught, labels, head.start, weights, config.label_smoothing, importance)
        )
    accuracies = _accuracies(
        [*heads, *heads], [*(head.start for head in heads), *refitted], see, data, device
    )
    results = []
    for head, fitted, old, new in zip(
        heads, refitted, accuracies[: len(heads)], accuracies[len(heads) :], strict=True
    ):
        results.append(Refitted(head.name, old, new, old is None or new is None or new >= old))
        if results[-1].kept:
            head.keep(*fitted)
    return results


def first_refitted(epochs: int) -> int:
    """Return the first of the :data:`PASSES` epochs, from 0, whose images heads are fitted to.

    They are the last ones of a training, and may go beyond a short one: the teacher has seen most of their
    images.
    """
    return max(epochs - PASSES, 0)


@torch.no_grad()
def _look(
    sources: AbstractSet[str],
    see: Callable[[Tensor], Features],
    teach: Callable[[Tensor], Tensor],
    data: DataSet,
    config: TrainingSettings,
    device: torch.device,
) -> tuple[Features, Tensor, Tensor]:
    """Run student and teacher on training images until there are enough features.

    Returns:
        Inputs of heads, the teacher's logits ``[N, classes]``, and labels ``int64 [N]``.
    """
    loader = train_loader(
        data.train,
        data.preprocess,
        min(config.batch_size, BATCH),
        Augment.of(config, data.preprocess.shape),
        config.seed,
        device=device,
        balanced=config.balance == "sampling",
    )
    features: dict[str, list[Tensor]] = {name: [] for name in sorted(sources)}
    taught: list[Tensor] = []
    labels: list[Tensor] = []
    count = 0
    first = first_refitted(config.epochs)
    for images, classes in (batch for n in range(PASSES) for batch in loader.epoch(first + n)):
        its = see(images)
        for name, known in features.items():
            known.append(its[name])
            count += its[name].numel()
        taught.append(teach(images).float())
        labels.append(classes)
        count += taught[-1].numel()
        if count >= FLOATS:
            break
    whole = {name: torch.cat(known) for name, known in features.items()}
    return whole, torch.cat(taught), torch.cat(labels)


@torch.no_grad()
def _accuracies(
    heads: Sequence[Head],
    layers: Sequence[tuple[Tensor, Tensor]],
    see: Callable[[Tensor], Features],
    data: DataSet,
    device: torch.device,
) -> list[float | None]:
    """Return the validation accuracy of each head with a given weight and bias; no feature is kept."""
    if not len(data.validation):
        return [None] * len(heads)
    right = [0] * len(heads)
    for images, classes in eval_batches(data.validation, data.preprocess):
        its, answers = see(images.to(device)), classes.to(device)
        for index, (head, (weight, bias)) in enumerate(zip(heads, layers, strict=True)):
            logits = functional.linear(its[head.source][:, : weight.shape[1]], weight, bias)
            right[index] += int((logits.argmax(1) == answers).sum())
    return [count / len(data.validation) for count in right]


def refit_student(
    network: nn.Module,
    teach: Callable[[Tensor], Tensor],
    data: DataSet,
    config: TrainingSettings,
    weights: LossSettings,
    device: torch.device,
) -> list[Refitted]:
    """Re-fit the head of a network without branches; see :func:`refit_distilled`."""
    with closing(OwnHead(network.eval(), example(data).to(device))) as own:

        def see(images: Tensor) -> Features:
            network(images)
            return {"own": own.features}

        return _reported(refit_heads(own.head(), see, teach, data, config, weights, device))


def refit_distilled(
    graph: TrainingGraph,
    teach: Callable[[Tensor], Tensor],
    data: DataSet,
    config: TrainingSettings,
    weights: LossSettings,
    plain: bool = True,
) -> list[Refitted]:
    """Re-fit the heads of a distilled student, on its device.

    Args:
        graph: Student and branches; it stays in evaluation mode.
        teach: Maps images ``[N, C, H, W]`` to the teacher's logits ``[N, classes]``.
        data: Training and validation splits.
        config: Settings of the finished training.
        weights: ``beta`` and the temperature.
        plain: Whether to re-fit the student's own head, in addition to that of each ``imf@k``.

    Returns:
        The result for each head.
    """
    device = graph.imf.attention.device
    with closing(OwnHead(graph.eval().student, example(data).to(device))) as own:

        def see(images: Tensor) -> Features:
            _, pooled = graph.pooled(images)
            return {"own": own.features} | ({"branches": torch.cat(pooled, 1)} if pooled else {})

        heads = (own.head() if plain else []) + branch_heads(graph)
        return _reported(refit_heads(heads, see, teach, data, config, weights, device))


def example(data: DataSet) -> Tensor:
    """Return two training images, ``[2, C, H, W]``."""
    return next(eval_batches(data.train.subset(torch.arange(2)), data.preprocess))[0]


def _reported(heads: list[Refitted]) -> list[Refitted]:
    if not heads:
        return []
    changes = [
        f"{each.head} {each.before:.2%} -> {each.after:.2%}" + ("" if each.kept else " (not kept)")
        for each in heads
        if each.before is not None and each.after is not None
    ]
    say("Heads re-fitted" + (f", validation accuracy: {', '.join(changes)}" if changes else ""))
    return heads
