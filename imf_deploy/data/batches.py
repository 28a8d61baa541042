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
Viewed = tuple[Tensor, Tensor, Tensor | None]
"""A batch, and the number of each picture's view where they can be counted."""
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

    @property
    def views(self) -> int | None:
        """How many pictures can come of one; nothing where crops make them countless."""
        return None if self.crop else (2 * self.shift + 1) ** 2 * (2 if self.flip else 1)

    def view_of(self, positions: Tensor, changes: Changes) -> Tensor | None:
        """Return the number of each changed picture among all views of all pictures, ``int64 [B]``.

        Args:
            positions: Of the pictures within their split, ``int64 [B]``.
            changes: Of these pictures.
        """
        if self.views is None:
            return None
        view = torch.zeros_like(positions)
        if changes.offsets is not None:
            down, right = changes.offsets[..., 0]
            view = down * (2 * self.shift + 1) + right
        if changes.mirrored is not None:
            view = view * 2 + changes.mirrored.flatten()
        return positions * self.views + view

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change ``uint8 [B, C, H, W]``, a whole batch at once; shape and type stay.

        Working on batches of bytes costs about a tenth of transforming single pictures.
        """
        return self.apply(images, self.draw(len(images), generator))

    def draw(self, count: int, generator: torch.Generator) -> Changes:
        """Draw how each of ``count`` pictures is changed."""
        offsets = mirrored = None
        if self.shift:
            offsets = torch.randint(0, 2 * self.shift + 1, (2, count, 1), generator=generator)
        if self.flip:
            mirrored = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
        return Changes(offsets, mirrored)

    def apply(self, images: Tensor, changes: Changes) -> Tensor:
        """Change ``uint8 [B, C, H, W]`` as drawn, wherever it lies."""
        count, channels, height, width = images.shape
        device = images.device
        if changes.offsets is not None:
            padded = torch.nn.functional.pad(images, [self.shift] * 4)
            offsets = changes.offsets.to(device)
            rows = (offsets[0] + torch.arange(height, device=device)).view(count, 1, height, 1)
            columns = (offsets[1] + torch.arange(width, device=device)).view(count, 1, 1, width)
            members = torch.arange(count, device=device).view(count, 1, 1, 1)
            planes = torch.arange(channels, device=device).view(1, channels, 1, 1)
            images = padded[members, planes, rows, columns]
        if changes.mirrored is not None:
            images = torch.where(changes.mirrored.to(device), images.flip(-1), images)
        return images


@dataclass(frozen=True)
class Changes:
    """What :class:`Augment` drew for some pictures.

    Attributes:
        offsets: Shift of each picture down and to the right, from 0: ``int64 [2, B, 1]``.
        mirrored: ``bool [B, 1, 1, 1]``.
    """

    offsets: Tensor | None
    mirrored: Tensor | None

    def of(self, members: Tensor) -> Changes:
        """Return the changes of some of the pictures."""
        return Changes(
            None if self.offsets is None else self.offsets[:, members],
            None if self.mirrored is None else self.mirrored[members],
        )


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


_CPU = torch.device("cpu")


def _loader(split: Split, batches: list[Wanted], device: torch.device, keep: bool) -> DataLoader[Batch]:
    """Return a loader of the batches that the list holds whenever it is iterated over.

    Args:
        split: The pictures.
        batches: What to fetch.
        device: Where batches go; for a GPU they are put into pinned memory.
        keep: Whether workers live on after the last batch.
    """
    workers = split.source.workers
    return DataLoader(
        _Fetch(split),
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=device.type == "cuda",
        persistent_workers=keep and workers > 0,
    )


def _fetch(loader: DataLoader[Batch], device: torch.device) -> Iterator[Batch]:
    try:
        for images, labels in loader:
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
    except ImfDeployError as error:
        # A worker's error comes with the worker's traceback in its text; its last line is ours.
        raise ImfDeployError(error.what.rstrip(".\n").rsplit("ImfDeployError: ", 1)[-1]) from error


@dataclass(frozen=True)
class Part:
    """Which part of every batch a process takes.

    Attributes:
        rank: Its number, from 0.
        world_size: How many processes share a batch; their parts differ by one picture at most.
        leader: Whether the picture before the part (before the first comes the last) leads it.
    """

    rank: int = 0
    world_size: int = 1
    leader: bool = False

    def members(self, count: int) -> Tensor:
        """Return the positions of the part in a batch of ``count`` pictures, ``int64 [B]``."""
        start, end = (count * r // self.world_size for r in (self.rank, self.rank + 1))
        return torch.arange(start - 1 if self.leader else start, end) % count


class TrainLoader:
    """Shuffled, augmented batches of every epoch; its workers live as long as it does.

    Order and changes follow from the seed and the epoch alone, so that a resumed training sees what
    an uninterrupted one would have seen, and any number of processes sees what one would. The last
    batch is left out where it is not full, since batch norm on a handful of pictures is noise.

    Args:
        split: The pictures.
        preprocess: How they become input.
        batch_size: Pictures of a batch, over all processes.
        augment: How they are changed.
        seed: Seed of all epochs.
        part: What this process takes of every batch.
        device: Where batches are wanted; bytes travel there, and become numbers there.
    """

    def __init__(
        self,
        split: Split,
        preprocess: Preprocess,
        batch_size: int,
        augment: Augment,
        seed: int,
        part: Part = Part(),
        device: torch.device = _CPU,
    ) -> None:
        self.batch_size = min(batch_size, len(split))
        self._count = len(split)
        self._preprocess = preprocess
        self._augment = augment
        self._seed = seed
        self._part = part
        self._device = device
        self._batches: list[Wanted] = []
        self._loader = _loader(split, self._batches, device, keep=True)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._count // self.batch_size

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch.

        Args:
            number: Of the epoch, from 0.
            first: Batches to leave out, since they were seen before.

        Yields:
            ``float32 [B, 3, size, size]`` in channels-last memory, and ``int64 [B]``.
        """
        for images, labels, _ in self.viewed_epoch(number, first):
            yield images, labels

    def viewed_epoch(self, number: int, first: int = 0) -> Iterator[Viewed]:
        """Yield what :meth:`epoch` does, and which views they are, as :meth:`Augment.view_of` counts."""
        key = self._seed * 1_000_003 + number
        generator = torch.Generator().manual_seed(key)
        order = torch.randperm(self._count, generator=generator)
        chunks = torch.split(order, self.batch_size)[first : len(self)]
        members = self._part.members(self.batch_size)
        crops = key if self._augment.crop else None
        self._batches[:] = [(chunk[members].tolist(), crops) for chunk in chunks]
        for _ in range(first):
            self._augment.draw(self.batch_size, generator)
        for (images, labels), chunk in zip(_fetch(self._loader, self._device), chunks, strict=True):
            changes = self._augment.draw(self.batch_size, generator).of(members)
            views = self._augment.view_of(chunk[members], changes)
            yield self._preprocess.normalize(self._augment.apply(images, changes)), labels, views


def train_batches(
    split: Split, preprocess: Preprocess, batch_size: int, augment: Augment, seed: int, epoch: int
) -> Iterator[Batch]:
    """Yield one epoch of :class:`TrainLoader`."""
    yield from TrainLoader(split, preprocess, batch_size, augment, seed).epoch(epoch)


def eval_batches(split: Split, preprocess: Preprocess, batch_size: int = 250) -> Iterator[Batch]:
    """Yield all pictures in order, unchanged.

    Yields:
        ``float32 [B, 3, size, size]`` in channels-last memory, and ``int64 [B]``.
    """
    batches: list[Wanted] = [(c.tolist(), None) for c in torch.split(torch.arange(len(split)), batch_size)]
    for images, labels in _fetch(_loader(split, batches, _CPU, keep=False), _CPU):
        yield preprocess.normalize(images), labels
