"""mixup and CutMix, the same for any number of processes."""

from collections.abc import Callable

import torch
from torch import Tensor

from imf_deploy.settings import TrainingSettings

Mixing = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


def mixing(config: TrainingSettings, num_classes: int) -> Mixing | None:
    """Return the function that mixes a batch with its neighbours, from torchvision; ``None`` if unused.

    The function takes images ``[N + 1, C, H, W]``, labels ``int64 [N + 1]`` or ``[N + 1, classes]``, and the
    step, and returns ``[N, C, H, W]`` and probabilities ``[N, classes]``. Each image is mixed with the
    preceding one, and the first is only there for that: a process that has a part of a batch mixes it just
    like a process that has all of it. The draws depend only on the seed and the step.
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
            # Only the CPU's generator is seeded: dropout on a GPU has its own stream.
            torch.default_generator.manual_seed(config.seed * 1_000_003 + step + (1 << 40))
            mixed, probabilities = choice(images, labels)
        return mixed[1:], probabilities[1:]

    return mix
