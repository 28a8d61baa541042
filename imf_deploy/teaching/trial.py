"""A few images on which a teacher is tried, and the choice of the best way to build it."""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from imf_deploy.chance import clearly_better
from imf_deploy.data import DataSet

Spec = TypeVar("Spec")
SAMPLE = 256
"""Number of images on which a teacher is tried, but at least four of each class up to :data:`MOST`."""
MOST = 1024
_BATCH = 64


def sample(data: DataSet) -> tuple[Tensor, Tensor]:
    """Return validation images, and training images if there are too few: always the same ones.

    Returns:
        ``uint8 [N, 1 or 3, S, S]``, and their labels ``int64 [N]``.
    """
    wanted = min(max(SAMPLE, 4 * data.preprocess.num_classes), MOST)
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for split in (data.validation, data.train):
        count = min(wanted - sum(len(part) for part in labels), len(split))
        if count > 0:
            chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:count]
            images.append(split.fetch(chosen))
            labels.append(split.labels[chosen])
    return torch.cat(images), torch.cat(labels)


def better_teacher(
    module: nn.Module, others: Iterable[tuple[Spec, nn.Module]], data: DataSet, device: torch.device
) -> tuple[Spec, nn.Module, str] | None:
    """Return the best of several ways to build a teacher, and its improvement, in words.

    ``None`` if none is clearly better than the current way.

    Args:
        module: Network in evaluation mode; images -> logits.
        others: The same network, built in other ways.
        data: Data that they will teach on.
        device: Device of all of them.
    """
    images: Tensor | None = None
    before = best = np.zeros(0, dtype=bool)
    better = None
    for spec, other in others:
        if images is None:
            images, labels = sample(data)
            before = best = right_on(module, images, labels, data, device)
        right = right_on(other, images, labels, data, device)
        if clearly_better(right, before) and right.sum() > best.sum():
            best, better = right, (spec, other)
    if better is None:
        return None
    return *better, f"{best.mean():.1%} of {len(best)} images right, in place of {before.mean():.1%}"


def right_on(
    module: nn.Module, images: Tensor, labels: Tensor, data: DataSet, device: torch.device
) -> npt.NDArray[np.bool_]:
    """Return for which images the largest logit is that of the label, ``bool [N]``; see :func:`sample`."""
    with torch.inference_mode():
        parts = torch.split(images, _BATCH)
        answers = torch.cat([module(data.preprocess.normalize(p).to(device)).argmax(1).cpu() for p in parts])
    return np.asarray((answers == labels).numpy(), np.bool_)
