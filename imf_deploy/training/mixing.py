"""mixup and CutMix, the same for any number of processes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from imf_deploy.settings import TrainingSettings

Mixing = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


def mixing(config: TrainingSettings, num_classes: int) -> Mixing | None:
    """Return what mixes a batch with its neighbours, from torchvision; nothing where none is asked for.

    The function takes images ``[N + 1, C, H, W]``, labels ``int64 [N + 1]`` and the step, and returns
    ``[N, C, H, W]`` and probabilities ``[N, classes]``. Each image is mixed with the one before it,
    and the first is only there for that: a process that has a part of a batch mixes it just as one
    that has all of it. What is drawn follows from the seed and the step.
    """
    if not config.mixup and not config.cutmix:
        return None
    from torchvision.transforms import v2

    ways = [
        way(alpha=alpha, num_classes=num_classes)
        for way, alpha in ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
        if alpha
    ]
    choice = v2.RandomChoice(ways)

    def mix(images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        with torch.random.fork_rng(devices=[]):
            # The CPU's alone: dropout on a GPU has its own stream.
            torch.default_generator.manual_seed(config.seed * 1_000_003 + step + (1 << 40))
            mixed, probabilities = choice(images, labels)
        return mixed[1:], probabilities[1:]

    return mix
