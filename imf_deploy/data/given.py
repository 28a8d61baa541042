"""Data given as objects: batches from any loader, and the images of a torch ``Dataset``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from imf_deploy.data.augment import Augment
from imf_deploy.data.batches import Batch, Part, TrainLoader, Viewed, eval_batches
from imf_deploy.data.dataset import UNLABELLED, MemoryImages, Split
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.preprocess import Crop, Preprocess

ALL, CPU = Part(), torch.device("cpu")
MOST_BYTES = 4 << 30
"""Maximum size in bytes of the batches of an iterable without random access."""


def read_batch(batch: Any, preprocess: Preprocess, name: str, least: int = 0) -> Batch:
    """Check a batch from outside.

    Args:
        batch: ``(images, labels)``: ``float [N, C, H, W]`` that are the network's input, or ``uint8 [N, 1 or
            C, H, W]`` that ``preprocess`` converts to it; and ``int64 [N]``.
        preprocess: Size and classes that the batch must match.
        name: Name of the argument that the batch comes from, for messages.
        least: Least label; :data:`imf_deploy.data.dataset.UNLABELLED` allows images without one.

    Raises:
        UsageError: the batch has another form.
    """
    if not isinstance(batch, list | tuple) or len(batch) != 2 or not all(torch.is_tensor(x) for x in batch):
        raise UsageError(f"{name} yields {_shape(batch)}, not (images, labels)", "Use batches of two tensors")
    images, labels = batch[0].detach(), batch[1].detach()
    shape, classes = preprocess.shape, preprocess.num_classes
    # Grey images that are not yet normalised are repeated.
    fits = images.ndim == 4 and images.shape[-2:] == shape[1:] and images.shape[1] in (1, shape[0])
    if not fits:
        raise UsageError(
            f"{name} yields images {_shape(images)}, but the network takes [N, {', '.join(map(str, shape))}]",
            "Use images of that size",
        )
    if images.dtype == torch.uint8:
        preprocess.check_known(name)
    elif not images.is_floating_point() or images.shape[1] != shape[0]:
        raise UsageError(f"{name} yields images {_shape(images)}", "Use float32 or uint8 images")
    if labels.shape != (len(images),) or labels.is_floating_point():
        raise UsageError(f"{name} yields labels {_shape(labels)}", "Use one integer for each image")
    if len(labels) and not (int(labels.min()) >= least and int(labels.max()) < classes):
        raise UsageError(
            f"{name} has labels from {int(labels.min())} to {int(labels.max())}, but the network has "
            f"{classes} classes",
            f"Use labels from 0 to {classes - 1}",
        )
    return images if images.dtype == torch.uint8 else images.float(), labels.long()


def label_rows(labels: Tensor, classes: int) -> Tensor:
    """Return labels ``int64 [N]`` as ``float32 [N, classes]``: 1 for the class, zeros for a missing label."""
    return functional.one_hot(labels.clamp_min(0), classes).float() * (labels >= 0)[:, None]


def _shape(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if torch.is_tensor(value) else type(value).__name__


@dataclass(frozen=True, eq=False)
class DatasetImages:
    """The images of a map-style ``Dataset``, each read when it is needed.

    Attributes:
        items: Data set of which ``items[i]`` is an image and its label.
        collate: Makes a batch from a list of these.
        labels: ``int64 [N]``.
        preprocess: Size and classes.
        workers: Number of processes that read.
        marks: Always ``None``: hashes are unknown.
    """

    items: Any
    collate: Callable[[list[Any]], Any]
    labels: Tensor
    preprocess: Preprocess
    workers: int = 0
    marks: Tensor | None = None

    def fetch(self, positions: Tensor, crops: Sequence[Crop] | None = None) -> Tensor:
        """Return the images at ``int64 [B]`` positions, as the data set gives them."""
        batch = self.collate([self.items[position] for position in positions.tolist()])
        return read_batch(batch, self.preprocess, "the data set")[0]


def in_memory(batches: Iterable[Any], preprocess: Preprocess, name: str) -> Split:
    """Read all batches into memory.

    Raises:
        UsageError: a batch has another form, there is none, or they take more than :data:`MOST_BYTES`.
    """
    kept: list[Batch] = []
    taken = 0
    for batch in batches:
        kept.append(read_batch(batch, preprocess, name))
        taken += kept[-1][0].nbytes
        if taken > MOST_BYTES:
            raise UsageError(
                f"the batches of {name} take more than {MOST_BYTES >> 30} GiB",
                "Use a torch Dataset with __getitem__, which is read image by image, or fewer images",
            )
    if not taken:
        raise UsageError(f"{name} yields no images", "Use an iterable that can be iterated over repeatedly")
    images, labels = (torch.cat(parts).cpu() for parts in zip(*kept, strict=True))
    return Split.whole(MemoryImages(images, labels))


class Batches(Protocol):
    """Batches that can be counted, and iterated over repeatedly."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __iter__(self) -> Iterator[Any]:
        """Yield each."""


def counted(batches: Any, name: str) -> Batches:
    """Return batches that can be counted.

    Raises:
        UsageError: they have no length, or can be iterated over only once.
    """
    if not (isinstance(batches, Sized) and isinstance(batches, Iterable)) or isinstance(batches, Iterator):
        raise UsageError(
            f"{name} has no length, on which the learning rate depends",
            "Use a DataLoader of a Dataset with a length, or a list of batches",
        )
    return batches


@dataclass(frozen=True)
class GivenSplit(Split):
    """Training batches from any loader; only the images of the first batch can be fetched.

    Attributes:
        batches: Loader that is iterated over once per epoch, with its own order and augmentation.
        batch_size: Number of images in the first batch.
    """

    batches: Batches
    batch_size: int

    @classmethod
    def of(cls, batches: Batches, preprocess: Preprocess, name: str) -> GivenSplit:
        """Build from a loader, of which the first batch is read.

        Raises:
            UsageError: there is none, or the first one has another form.
        """
        first = next(iter(batches), None)
        if first is None:
            raise UsageError(f"{name} yields no batch", "Provide at least one")
        images, labels = read_batch(first, preprocess, name, UNLABELLED)
        known = MemoryImages(images.cpu(), labels.cpu())
        return cls(known, torch.arange(len(batches) * len(images)), batches, len(images))


class GivenLoader:
    """Passes the batches of a :class:`GivenSplit` to the training loop, instead of ``TrainLoader``.

    Args:
        split: The batches.
        preprocess: How ``uint8`` images are prepared as input.
        part: Whether the last image of a batch is repeated at its front, for mixing.
        device: Device of the batches.
        held_out: Images that :meth:`evaluation` yields.
    """

    def __init__(
        self,
        split: GivenSplit,
        preprocess: Preprocess,
        part: Part = ALL,
        device: torch.device = CPU,
        held_out: Split | None = None,
    ) -> None:
        if part.world_size > 1:
            raise ImfDeployError(
                "data given as objects can be used by one process only, but several are running",
                "Use ImfDistiller in your own loop with Accelerate",
            )
        self.batch_size = split.batch_size
        self._split, self._preprocess, self._part = split, preprocess, part
        self._device, self._held_out = device, held_out

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self._split) // self.batch_size

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, without the ``first`` ones."""
        for images, labels, _ in self.viewed_epoch(number, first):
            yield images, labels

    def viewed_epoch(self, number: int, first: int = 0) -> Iterator[Viewed]:
        """Yield the same as :meth:`epoch`; the views are unknown. A batch of one image is skipped.

        Labels are :func:`label_rows` if some are missing.
        """
        normalize = self._preprocess.normalizer(self._device)
        for index, batch in enumerate(self._split.batches):
            images, labels = read_batch(batch, self._preprocess, "train", UNLABELLED)
            if len(labels) and int(labels.min()) < 0:
                labels = label_rows(labels, self._preprocess.num_classes)
            if index >= first and len(images) > 1:
                members = self._part.members(len(images))
                yield normalize(images[members].to(self._device)), labels[members].to(self._device), None

    def evaluation(self) -> Iterator[Batch]:
        """Yield the held-out images in order."""
        for images, labels in eval_batches(self._held_out or self._split, self._preprocess):
            yield images.to(self._device), labels.to(self._device)


def train_loader(
    split: Split,
    preprocess: Preprocess,
    batch_size: int,
    augment: Augment,
    seed: int,
    part: Part = ALL,
    device: torch.device = CPU,
    held_out: Split | None = None,
    balanced: bool = False,
) -> TrainLoader | GivenLoader:
    """Return the loader of the training loop; see :class:`imf_deploy.data.batches.TrainLoader`."""
    if isinstance(split, GivenSplit):
        return GivenLoader(split, preprocess, part, device, held_out)
    return TrainLoader(split, preprocess, batch_size, augment, seed, part, device, held_out, balanced)
