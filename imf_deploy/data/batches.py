"""Batches of network input: shuffled and augmented for training, in order for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from imf_deploy.data.crops import random_crops
from imf_deploy.data.dataset import Split
from imf_deploy.errors import ImfDeployError
from imf_deploy.preprocess import Preprocess

Batch = tuple[Tensor, Tensor]
Wanted = tuple[list[int], int | None]
"""Positions of a batch, and the key of its random crops where there are any."""
AugmentName = Literal["shift-flip", "crop-flip", "none"]


@dataclass(frozen=True)
class Augment:
    """Random changes of training pictures.

    Attributes:
        shift: Largest shift in each direction, in pixels; what comes in is black.
        flip: Whether half of the pictures are mirrored left to right.
        crop: Whether a random part of each picture is taken, when it is fetched.
    """

    shift: int = 2
    flip: bool = True
    crop: bool = False

    @classmethod
    def named(cls, name: AugmentName, size: int, flip: bool, shift: int | None) -> Augment:
        """Return what ``--augment`` names.

        Args:
            name: ``shift-flip``, ``crop-flip`` (random crops as for ImageNet) or ``none``.
            size: Side of the network's input in pixels.
            flip: Whether mirrored pictures keep their class.
            shift: Pixels; nothing takes a 14th of the side.
        """
        if name == "none":
            return cls(0, False)
        return (
            cls(0, flip, True)
            if name == "crop-flip"
            else cls(round(size / 14) if shift is None else shift, flip)
        )

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change ``uint8 [B, C, H, W]``, a whole batch at once; shape and type stay.

        Working on batches of bytes costs about a tenth of transforming single pictures.
        """
        count, channels, height, width = images.shape
        if self.shift:
            padded = torch.nn.functional.pad(images, [self.shift] * 4)
            offsets = torch.randint(0, 2 * self.shift + 1, (2, count, 1), generator=generator)
            rows = (offsets[0] + torch.arange(height)).view(count, 1, height, 1)
            columns = (offsets[1] + torch.arange(width)).view(count, 1, 1, width)
            members = torch.arange(count).view(count, 1, 1, 1)
            images = padded[members, torch.arange(channels).view(1, channels, 1, 1), rows, columns]
        if self.flip:
            mirrored = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
            images = torch.where(mirrored, images.flip(-1), images)
        return images


class _Fetch(Dataset[Batch]):
    """Lets a ``DataLoader`` fetch whole batches, in this process or in workers."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self.labels = split.labels

    def __getitem__(self, wanted: Wanted) -> Batch:
        positions, key = wanted
        index = torch.tensor(positions)
        crops = None if key is None else random_crops(positions, key)
        return self.split.fetch(index, crops), self.labels[index]


def _as_it_is(batch: Any) -> Any:
    return batch


def _load(
    split: Split, order: Tensor, batch_size: int, drop_last: bool, key: int | None = None
) -> Iterator[Batch]:
    batches: list[Wanted] = [(chunk.tolist(), key) for chunk in torch.split(order, batch_size)]
    if drop_last and len(batches) > 1 and len(batches[-1][0]) < batch_size:
        batches.pop()
    loader = DataLoader(
        _Fetch(split),
        sampler=batches,
        batch_size=None,
        num_workers=split.source.workers,
        collate_fn=_as_it_is,
    )
    try:
        yield from loader
    except ImfDeployError as error:
        # A worker's error comes with the worker's traceback in its text; its last line is ours.
        raise ImfDeployError(error.what.rstrip(".\n").rsplit("ImfDeployError: ", 1)[-1]) from error


def train_batches(
    split: Split, preprocess: Preprocess, batch_size: int, augment: Augment, seed: int, epoch: int
) -> Iterator[Batch]:
    """Yield one epoch of shuffled, augmented batches.

    The order and the changes follow from ``seed`` and ``epoch`` alone, so that a resumed training
    sees what an uninterrupted one would have seen. The last batch is left out where it is not
    full, since batch norm on a handful of pictures is noise.

    Yields:
        ``float32 [B, 3, size, size]`` in channels-last memory, and ``int64 [B]``.
    """
    key = seed * 1_000_003 + epoch
    generator = torch.Generator().manual_seed(key)
    order = torch.randperm(len(split), generator=generator)
    for images, labels in _load(split, order, batch_size, True, key if augment.crop else None):
        yield preprocess.normalize(augment(images, generator)), labels


def train_batch_count(split: Split, batch_size: int) -> int:
    """Return how many batches :func:`train_batches` yields for one epoch."""
    return max(len(split) // batch_size, 1)


def eval_batches(split: Split, preprocess: Preprocess, batch_size: int = 250) -> Iterator[Batch]:
    """Yield all pictures in order, unchanged.

    Yields:
        ``float32 [B, 3, size, size]`` in channels-last memory, and ``int64 [B]``.
    """
    for images, labels in _load(split, torch.arange(len(split)), batch_size, drop_last=False):
        yield preprocess.normalize(images), labels
