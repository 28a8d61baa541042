"""Batches of network input: shuffled and augmented for training, in order for evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from imf_deploy.data.augment import Augment
from imf_deploy.data.crops import random_crops
from imf_deploy.data.dataset import Split
from imf_deploy.data.order import EpochOrder
from imf_deploy.data.resident import ResidentImages
from imf_deploy.data.transport import PipedBatch, Transport
from imf_deploy.errors import ImfDeployError
from imf_deploy.preprocess import Preprocess
from imf_deploy.untrusted import shorten

Batch = tuple[Tensor, Tensor]
Viewed = tuple[Tensor, Tensor, Tensor | None]
"""A batch, and the number of each image's view if views can be counted."""
Wanted = tuple[int, list[int], tuple[int, list[int]] | None]
"""The index of a split, positions in it, and the key and the number of each random crop if there are any."""


class _Fetch(Dataset[Batch | PipedBatch]):
    """Lets a ``DataLoader`` fetch whole batches, in this process or in workers."""

    def __init__(self, splits: Sequence[Split], aspect: float, piped: bool) -> None:
        self.splits = [(split, split.labels) for split in splits]
        self.aspect = aspect
        self.piped = piped

    def __getitem__(self, wanted: Wanted) -> Batch | PipedBatch:
        which, positions, crop = wanted
        split, labels = self.splits[which]
        index = torch.tensor(positions)
        crops = None if crop is None else random_crops(crop[1], crop[0], self.aspect)
        batch = split.fetch(index, crops), labels[index]
        return PipedBatch.of(*batch) if self.piped else batch


def _as_it_is(batch: Any) -> Any:
    return batch


_CPU = torch.device("cpu")


def _loader(
    splits: Sequence[Split],
    batches: list[Wanted],
    batch_size: int,
    preprocess: Preprocess,
    device: torch.device,
    keep: bool,
) -> DataLoader[Batch | PipedBatch]:
    """Return a loader whose batches are those in the list at the time of iteration.

    Args:
        splits: The images.
        batches: What to fetch.
        batch_size: Largest number of images in a batch.
        preprocess: How they are prepared.
        device: Device of the batches; for a GPU they are put into pinned memory.
        keep: Whether workers stay alive after the last batch.
    """
    _, height, width = preprocess.shape
    batch_bytes = batch_size * preprocess.picture_bytes
    transport = Transport.choose(max(split.source.workers for split in splits), batch_bytes)
    return DataLoader(
        _Fetch(splits, width / height, transport.piped),
        sampler=batches,
        batch_size=None,
        num_workers=transport.workers,
        collate_fn=_as_it_is,
        pin_memory=device.type == "cuda",
        persistent_workers=keep and transport.workers > 0,
    )


def _fetch(loader: DataLoader[Batch | PipedBatch], device: torch.device) -> Iterator[Batch]:
    try:
        for batch in loader:
            images, labels = batch.tensors() if isinstance(batch, PipedBatch) else batch
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
    except ImfDeployError as error:
        # The text of a worker's error contains the worker's traceback; its last line is ours.
        what = error.what.removesuffix(r"\n").rstrip(".")
        raise ImfDeployError(what.rsplit("ImfDeployError: ", 1)[-1]) from error
    except RuntimeError as error:
        # PyTorch has no exception class for a worker that died.
        if not str(error).startswith("DataLoader worker"):
            raise
        raise ImfDeployError(
            f"a process that decodes images has died ({shorten(str(error)).rstrip('. ')})",
            "Free some memory, or give a container more (--memory, --shm-size), and run again",
        ) from error


@dataclass(frozen=True)
class Part:
    """The part of every batch that a process takes.

    Attributes:
        rank: Rank of the process, from 0.
        world_size: Number of processes that share a batch; their parts differ by at most one image.
        leader: Whether the part is preceded by the image before it (the last one, for the first part).
    """

    rank: int = 0
    world_size: int = 1
    leader: bool = False

    def members(self, count: int) -> Tensor:
        """Return the positions of the part in a batch of ``count`` images, ``int64 [B]``."""
        start, end = (count * r // self.world_size for r in (self.rank, self.rank + 1))
        return torch.arange(start - 1 if self.leader else start, end) % count


class TrainLoader:
    """Shuffled, augmented batches of every epoch; its workers live as long as the loader.

    Order and changes depend only on the seed and the epoch, so a resumed training sees the same batches as an
    uninterrupted one, and any number of processes sees the same batches as one. The last batch is dropped if
    it is not full, because batch norm on a few images is noisy.

    Args:
        split: The images.
        preprocess: How they are prepared as input.
        batch_size: Images in a batch, over all processes.
        augment: How they are changed.
        seed: Seed of all epochs.
        part: The part of every batch that this process takes.
        device: Device of the batches; images are sent there as bytes and converted there.
        held_out: Images that :meth:`evaluation` yields, from the same workers.
        balanced: Whether all classes are drawn equally often; see :class:`EpochOrder`.
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
        held_out: Split | None = None,
        balanced: bool = False,
    ) -> None:
        self.batch_size = min(batch_size, len(split))
        self._count = len(split)
        self._order = EpochOrder(split.labels, self.batch_size, balanced)
        self._balanced = balanced
        self._augment = augment
        self._seed = seed
        self._part = part
        self._device = device
        self._normalize = preprocess.normalizer(device)
        self._resident = ResidentImages.of(split, augment, device)
        self._batches: list[Wanted] = []
        self._held_out = len(held_out) if held_out is not None else 0
        splits = [split] if held_out is None else [split, held_out]
        largest = max(batch_size, EVALUATION_BATCH) if held_out else batch_size
        self._loader = _loader(splits, self._batches, largest, preprocess, device, keep=True)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._count // self.batch_size

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch.

        Args:
            number: Number of the epoch, from 0.
            first: Number of batches to skip, because they were seen before.

        Yields:
            ``float32 [B, C, H, W]`` in channels-last memory, and ``int64 [B]``, below 0 for images without a
            label.
        """
        for images, labels, _ in self.viewed_epoch(number, first):
            yield images, labels

    def viewed_epoch(self, number: int, first: int = 0) -> Iterator[Viewed]:
        """Yield the batches of :meth:`epoch` with their views, numbered as by :meth:`Augment.view_of`."""
        key = self._seed * 1_000_003 + number
        generator = torch.Generator().manual_seed(key)
        order = self._order.draw(generator)
        chunks = torch.split(order, self.batch_size)[first : len(self)]
        members = self._part.members(self.batch_size)
        chosen = [chunk[members] for chunk in chunks]
        numbers = chosen
        if self._balanced:  # an image that is drawn repeatedly is cropped differently each time
            places = torch.split(torch.arange(len(order)), self.batch_size)[first : len(self)]
            numbers = [place[members] for place in places]
        self._batches[:] = [
            (0, positions.tolist(), (key, crops.tolist()) if self._augment.crop else None)
            for positions, crops in zip(chosen, numbers, strict=True)
        ]
        for _ in range(first):
            self._augment.draw(self.batch_size, generator)
        drawn = [self._augment.draw(self.batch_size, generator).of(members) for _ in chunks]
        if self._resident:
            batches = self._resident.batches(chosen, drawn)
        else:
            fetched = zip(_fetch(self._loader, self._device), drawn, strict=True)
            batches = (
                (self._augment.apply(images, changes), labels) for (images, labels), changes in fetched
            )
        for (images, labels), positions, changes in zip(batches, chosen, drawn, strict=True):
            yield self._normalize(images), labels, self._augment.view_of(positions, changes)

    def evaluation(self) -> Iterator[Batch]:
        """Yield the held-out images in order, unchanged; must not be called during an epoch.

        Yields:
            ``float32 [B, C, H, W]`` in channels-last memory, and ``int64 [B]``.
        """
        self._batches[:] = _in_order(self._held_out, 1)
        for images, labels in _fetch(self._loader, self._device):
            yield self._normalize(images), labels


EVALUATION_BATCH = 250


def _in_order(count: int, which: int = 0, batch_size: int = EVALUATION_BATCH) -> list[Wanted]:
    return [(which, chunk.tolist(), None) for chunk in torch.split(torch.arange(count), batch_size)]


def train_batches(
    split: Split, preprocess: Preprocess, batch_size: int, augment: Augment, seed: int, epoch: int
) -> Iterator[Batch]:
    """Yield one epoch of :class:`TrainLoader`."""
    yield from TrainLoader(split, preprocess, batch_size, augment, seed).epoch(epoch)


def eval_batches(split: Split, preprocess: Preprocess, batch_size: int = EVALUATION_BATCH) -> Iterator[Batch]:
    """Yield all images in order, unchanged.

    Yields:
        ``float32 [B, C, H, W]`` in channels-last memory, and ``int64 [B]``.
    """
    batches = _in_order(len(split), batch_size=batch_size)
    loader = _loader([split], batches, batch_size, preprocess, _CPU, keep=False)
    for images, labels in _fetch(loader, _CPU):
        yield preprocess.normalize(images), labels
