"""Convert data in all forms that the verbs accept to splits for the stages."""

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, default_collate

from imf_deploy.data import DataSet, Split, open_data, settings_for
from imf_deploy.data.dataset import MemoryImages
from imf_deploy.data.given import DatasetImages, GivenSplit, counted, in_memory, read_batch
from imf_deploy.errors import UsageError
from imf_deploy.preprocess import Preprocess

Data = Iterable[Any] | Dataset[Any] | Split | DataSet | str | Path
"""Batches ``(images, labels)`` from any iterable, such as a ``DataLoader``; a ``Dataset`` of
``(image, label)`` pairs; or a data set by its name or path, as on the command line. Images are the
network's input, ``float [N, C, H, W]``, or ``uint8`` images if the network has a ``Preprocess``; labels are
``int64 [N]``."""
Role = Literal["train", "validation", "test"]

_READ = 64
"""Number of images that are read at once."""


def as_split(data: Data, preprocess: Preprocess, name: str, role: Role) -> Split:
    """Return data as a split whose images are in the order of the data.

    A map-style data set is read image by image, when images are needed. Batches from other iterables are kept
    in memory.

    Args:
        data: The data.
        preprocess: Size and classes that the data must match.
        name: Name of the argument that the data comes from, for messages.
        role: Split to use, if the data is given by name or path.

    Raises:
        UsageError: the data has another form.
        ImfDeployError: the named data cannot be opened, or has no such split.
    """
    if isinstance(data, str | Path):
        data = open_data(settings_for(preprocess, str(data)))
    if isinstance(data, DataSet):
        split: Split = getattr(data, role)
        if not len(split) or data.preprocess != preprocess:
            raise UsageError(
                f"{name} is {data.name}, which "
                + ("has other preprocessing than the network" if len(split) else f"has no {role} images"),
                "Use batches of the network's input, or the data that it was trained on",
            )
        return split
    if isinstance(data, Split):
        return data
    collate, workers = default_collate, 0
    items: Any = data
    if isinstance(data, DataLoader):
        positions = _positions(data)
        if positions is None:
            return in_memory(data, preprocess, name)
        items, collate, workers = Subset(data.dataset, positions), data.collate_fn, data.num_workers
    elif not isinstance(data, Dataset) or isinstance(data, IterableDataset):
        if not isinstance(data, Iterable):
            raise UsageError(f"{name} is {data!r}", "Use batches of (images, labels), or a data set")
        return in_memory(data, preprocess, name)
    try:
        # One pass for the labels; the images are read again when they are needed.
        loader = DataLoader(items, _READ, collate_fn=collate, num_workers=workers)
        labels = [read_batch(batch, preprocess, name)[1] for batch in loader]
    except TypeError as error:
        raise UsageError(
            f"{name} cannot be collated into batches ({str(error).splitlines()[0]})",
            "Let its transform return tensors, such as torchvision.transforms.ToTensor()",
        ) from error
    if not labels:
        raise UsageError(f"{name} has no images", "Provide at least one")
    return Split.whole(DatasetImages(items, collate, torch.cat(labels), preprocess, workers))


def _positions(loader: DataLoader[Any]) -> list[int] | None:
    """Return the indices of a loader's items, in order; ``None`` if they cannot be fetched one by one."""
    if isinstance(loader.dataset, IterableDataset) or not hasattr(loader.dataset, "__getitem__"):
        return None
    if loader.batch_sampler is None:
        chosen: list[Any] = list(loader.sampler)
    else:
        chosen = [position for batch in loader.batch_sampler for position in batch]
    return sorted(chosen) if all(type(position) is int for position in chosen) else None


def as_training(data: Data, preprocess: Preprocess, batch_size: int) -> Split:
    """Return training data: the batches of a loader, or a split of a named data set.

    Args:
        data: Training data. A loader is iterated over once per epoch, with its own order, batches and
            augmentation. A ``Dataset`` is shuffled.
        preprocess: See :func:`as_split`.
        batch_size: Images in a batch of a ``Dataset``.
    """
    if isinstance(data, str | Path | DataSet | Split):
        return as_split(data, preprocess, "train", "train")
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        count = len(data)  # type: ignore[arg-type]  # PyTorch does not declare it
        data = DataLoader(data, min(batch_size, count), shuffle=True, drop_last=True)
    return GivenSplit.of(counted(data, "train"), preprocess, "train")


def first_shape(data: Data) -> tuple[int, ...] | None:
    """Return the shape of the first image, ``[C, H, W]``; ``None`` for named or unknown data."""
    if isinstance(data, str | Path | DataSet):
        return None
    if isinstance(data, Split):
        return tuple(data.fetch(torch.tensor([0])).shape[-3:])
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        first = data[0]
    else:
        first = next(iter(counted(data, "train")), None)
    images = first[0] if isinstance(first, list | tuple) and first else None
    return tuple(images.shape[-3:]) if torch.is_tensor(images) else None


def data_set(
    preprocess: Preprocess,
    *,
    train: Split | None = None,
    validation: Split | None = None,
    test: Split | None = None,
    name: str = "the given data",
) -> DataSet:
    """Return the data set for the stages, with empty splits for those that are not given.

    Data of different calls counts as different, so existing files are never reused for it.
    """
    nothing = Split.whole(MemoryImages(torch.zeros(0, *preprocess.shape), torch.zeros(0, dtype=torch.int64)))
    own = [nothing if part is None else part for part in (train, validation, test)]
    return DataSet(name, preprocess, own[0], own[1], own[2], secrets.token_hex(16))
