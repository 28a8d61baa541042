"""The common form of all data sets: three splits and one ``Preprocess``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from imf_deploy.data.pictures import Pictures, decode
from imf_deploy.errors import ImfDeployError
from imf_deploy.preprocess import Crop, Preprocess

UNLABELLED = -1
"""Label of an image without one, as in scikit-learn."""


class ImageSource(Protocol):
    """Labelled images that can be fetched by position."""

    @property
    def labels(self) -> Tensor:
        """Class of every image, ``int64 [N]``; :data:`UNLABELLED` if it has none."""

    @property
    def workers(self) -> int:
        """Number of processes that speed up fetching; 0 if images are already in memory."""

    @property
    def marks(self) -> Tensor | None:
        """Hash of every image's bytes, ``int64 [N]``, or ``None`` if unknown."""

    def fetch(self, positions: Tensor, crops: Sequence[Crop] | None = None) -> Tensor:
        """Return the images at ``int64 [B]`` positions as ``uint8 [B, C, H, W]``.

        Args:
            positions: Positions of the images.
            crops: Crop of each image; without them images are prepared as for evaluation.
        """


@dataclass(frozen=True, eq=False)
class MemoryImages:
    """Images that are kept decoded in memory, ``uint8 [N, C, H, W]``; ``pictures`` if they were files."""

    images: Tensor
    labels: Tensor
    workers: int = 0
    marks: Tensor | None = None
    pictures: Pictures | None = None

    def fetch(self, positions: Tensor, crops: Sequence[Crop] | None = None) -> Tensor:
        """Return ``uint8 [B, C, H, W]``; ``crops`` are taken from the prepared images."""
        images = self.images[positions]
        if not crops:
            return images
        from torchvision.transforms.v2.functional import resized_crop

        height, width = images.shape[-2:]
        parts = zip(images, crops, strict=True)
        return torch.stack([resized_crop(i, *crop(height, width), [height, width]) for i, crop in parts])


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Images that are decoded each time they are used."""

    pictures: Pictures
    labels: Tensor
    preprocess: Preprocess
    workers: int
    marks: Tensor | None = None

    def fetch(self, positions: Tensor, crops: Sequence[Crop] | None = None) -> Tensor:
        """Return ``uint8 [B, C, H, W]``.

        Raises:
            ImfDeployError: an image cannot be decoded; the message names it.
        """
        chosen: Sequence[Crop | None] = crops or [None] * len(positions)
        pairs = zip(positions.tolist(), chosen, strict=True)
        return torch.stack([decode(self.pictures, p, self.preprocess, crop) for p, crop in pairs])


@dataclass(frozen=True)
class Split:
    """Some of a source's images, by position."""

    source: ImageSource
    positions: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def labels(self) -> Tensor:
        """Class of every image of the split, ``int64 [N]``."""
        return self.source.labels[self.positions]

    @property
    def marks(self) -> Tensor | None:
        """Hash of the bytes of every image of the split, ``int64 [N]``, or ``None`` if unknown."""
        return None if self.source.marks is None else self.source.marks[self.positions]

    def fetch(self, positions: Tensor, crops: Sequence[Crop] | None = None) -> Tensor:
        """Return images by their position within the split; see :meth:`ImageSource.fetch`."""
        return self.source.fetch(self.positions[positions], crops)

    def subset(self, positions: Tensor) -> Split:
        """Return a split of some images of this one."""
        return Split(self.source, self.positions[positions])

    @classmethod
    def whole(cls, source: ImageSource) -> Split:
        """Return a split of all images of a source."""
        return cls(source, torch.arange(len(source.labels)))


@dataclass(frozen=True)
class DataSet:
    """Three splits and the preprocessing they share.

    Attributes:
        name: Name of the data set in reports.
        preprocess: Size, channels, mean, std and labels; the same for every stage.
        train: Images that weights are fitted to.
        validation: Held-out part of the training data; all choices are made on it.
        test: Images that are only used to report.
        fingerprint: Hash that identifies images and splits.
        notes: Decisions made for the user, such as a hold-out, to be printed.
        config: ``DataSettings`` fields that open the data set again.
        unlabelled: Images without labels that a distillation also learns from, if any; neither
            ``fingerprint`` nor the splits contain them.
    """

    name: str
    preprocess: Preprocess
    train: Split
    validation: Split
    test: Split
    fingerprint: str
    notes: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    unlabelled: Split | None = None


def hold_out(split: Split, fraction: float, seed: int, labels: tuple[str, ...]) -> tuple[Split, Split]:
    """Split off a stratified, seeded part: the same fraction of every class, at least one image.

    Args:
        split: The images to divide.
        fraction: Fraction to hold out, from 0 (nothing) to below 1.
        seed: Seed of the choice.
        labels: Class names, for messages.

    Returns:
        The remaining part, and the held-out part.

    Raises:
        ImfDeployError: a class has too few images to be in both parts.
    """
    if fraction == 0:
        return split, split.subset(torch.arange(0))
    generator = torch.Generator().manual_seed(seed)
    classes = split.labels
    held = torch.zeros(len(split), dtype=torch.bool)
    for index, label in enumerate(labels):
        members = (classes == index).nonzero().flatten()
        if len(members) < 2:
            raise ImfDeployError(
                f"class '{label}' has {len(members)} training image(s), too few to hold one out",
                "Add images to the class, or remove the class",
            )
        count = min(max(round(len(members) * fraction), 1), len(members) - 1)
        held[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return split.subset((~held).nonzero().flatten()), split.subset(held.nonzero().flatten())
