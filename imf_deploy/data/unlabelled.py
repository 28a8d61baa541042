"""Images without labels, which a distillation learns from in addition to the training images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from imf_deploy.data.choice import hash_images
from imf_deploy.data.dataset import UNLABELLED, DataSet, ImageSource, MemoryImages, Split
from imf_deploy.data.encoded import MEMORY_LIMIT, Part, open_part
from imf_deploy.data.pictures import FilePictures
from imf_deploy.data.walk import Walk, exists, images_below, real
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.preprocess import Crop, Preprocess


def open_unlabelled(folder: Path, preprocess: Preprocess) -> tuple[Split, tuple[str, ...]]:
    """Open all images in a folder and in the folders inside it, whatever these are called.

    Args:
        folder: The folder.
        preprocess: Preprocessing of the labelled images.

    Returns:
        The images, and notes for the user.

    Raises:
        UsageError: there is no such folder.
        ImfDeployError: it holds no images, or one of them is damaged.
    """
    if not exists(folder, Path.is_dir):
        raise UsageError(f"`unlabelled` {folder} is not a folder", "Use a folder of images")
    walk = Walk(real(folder))
    paths = images_below(folder, walk)
    if not paths:
        raise ImfDeployError(f"`unlabelled` {folder} holds no images", "Use a folder that holds images")
    pictures = FilePictures(folder, tuple(paths))
    part = Part(pictures, torch.full((len(paths),), UNLABELLED), pictures.marks)
    count = f"{len(paths)} images of {folder} are used without labels, in the distillation only"
    return Split.whole(open_part(part, preprocess)), (count, *walk.notes())


def identity_of(split: Split) -> str:
    """Return a hash of the images of a split: of their files if these are known, else of their pixels."""
    if split.marks is None:
        return hash_images(split)
    return hashlib.sha256(split.marks.numpy().tobytes()).hexdigest()


def with_unlabelled(data: DataSet) -> DataSet:
    """Return a data set whose training split ends with its unlabelled images.

    The loader of training batches spreads them evenly over the batches of an epoch.
    """
    if data.unlabelled is None:
        return data
    return replace(data, train=Split.whole(_joined(data.train, data.unlabelled)), unlabelled=None)


def _joined(first: Split, second: Split) -> ImageSource:
    """Return the images of two splits, copied into one tensor if both are in memory and that is small."""
    both = _Joined((first, second))
    kept = [split.source.images for split in (first, second) if isinstance(split.source, MemoryImages)]
    if len(kept) < 2 or sum(images.nbytes for images in kept) > MEMORY_LIMIT:
        return both
    parts = [images[split.positions] for images, split in zip(kept, (first, second), strict=True)]
    return MemoryImages(torch.cat(parts), both.labels, marks=both.marks)


@dataclass(frozen=True, eq=False)
class _Joined:
    """The images of several splits, one after the other."""

    splits: tuple[Split, ...]

    @property
    def labels(self) -> Tensor:
        """Class of every image, ``int64 [N]``."""
        return torch.cat([split.labels for split in self.splits])

    @property
    def workers(self) -> int:
        """Number of processes that speed up fetching."""
        return max(split.source.workers for split in self.splits)

    @property
    def marks(self) -> Tensor | None:
        """Hash of every image's bytes, ``int64 [N]``, or ``None`` if one is unknown."""
        marks = [split.marks for split in self.splits]
        return None if any(each is None for each in marks) else torch.cat([m for m in marks if m is not None])

    def fetch(self, positions: Tensor, crops: Sequence[Crop] | None = None) -> Tensor:
        """Return the images at ``int64 [B]`` positions; see :meth:`ImageSource.fetch`."""
        images: Tensor | None = None
        start = 0
        for split in self.splits:
            its = ((positions >= start) & (positions < start + len(split))).nonzero().flatten()
            if len(its):
                own = [crops[index] for index in its.tolist()] if crops else None
                found = split.fetch(positions[its] - start, own)
                if images is None:
                    images = found.new_empty(len(positions), *found.shape[1:])
                images[its] = found
            start += len(split)
        assert images is not None  # noqa: S101  a batch has images
        return images
