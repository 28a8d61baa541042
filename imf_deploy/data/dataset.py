"""What a data set is to the rest of the program: three splits and one ``Preprocess``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from imf_deploy.data.pictures import Pictures, decode
from imf_deploy.errors import ImfDeployError
from imf_deploy.preprocess import Crop, Preprocess


class ImageSource(Protocol):
    """Labelled pictures that can be fetched by position."""

    @property
    def labels(self) -> Tensor:
        """Class of every picture, ``int64 [N]``."""

    @property
    def workers(self) -> int:
        """Processes that fetching profits from; 0 where pictures already lie in memory."""

    @property
    def marks(self) -> Tensor | None:
        """Hash of every picture's bytes, ``int64 [N]``, where they are known."""

    def fetch(self, positions: Tensor, crops: Sequence[Crop] | None = None) -> Tensor:
        """Return the pictures at ``int64 [B]`` positions as ``uint8 [B, C, size, size]``.

        Args:
            positions: Which.
            crops: Choose a part of each picture; without them it is prepared as for evaluation.
        """


@dataclass(frozen=True, eq=False)
class MemoryImages:
    """Pictures that lie decoded in memory, ``uint8 [N, C, size, size]``."""

    images: Tensor
    labels: Tensor
    workers: int = 0
    marks: Tensor | None = None

    def fetch(self, positions: Tensor, crops: Sequence[Crop] | None = None) -> Tensor:
        """Return ``uint8 [B, C, size, size]``; ``crops`` are taken of the prepared pictures."""
        images = self.images[positions]
        if not crops:
            return images
        from torchvision.transforms.v2.functional import resized_crop

        height, width = images.shape[-2:]
        parts = zip(images, crops, strict=True)
        return torch.stack([resized_crop(i, *crop(height, width), [height, width]) for i, crop in parts])


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Pictures that are decoded each time they are used."""

    pictures: Pictures
    labels: Tensor
    preprocess: Preprocess
    workers: int
    marks: Tensor | None = None

    def fetch(self, positions: Tensor, crops: Sequence[Crop] | None = None) -> Tensor:
        """Return ``uint8 [B, C, size, size]``.

        Raises:
            ImfDeployError: a picture cannot be decoded; the message names it.
        """
        chosen: Sequence[Crop | None] = crops or [None] * len(positions)
        pairs = zip(positions.tolist(), chosen, strict=True)
        return torch.stack([decode(self.pictures, p, self.preprocess, crop) for p, crop in pairs])


@dataclass(frozen=True)
class Split:
    """Some of a source's pictures, by position."""

    source: ImageSource
    positions: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def labels(self) -> Tensor:
        """Class of every picture of the split, ``int64 [N]``."""
        return self.source.labels[self.positions]

    @property
    def marks(self) -> Tensor | None:
        """Hash of the bytes of every picture of the split, ``int64 [N]``, where they are known."""
        return None if self.source.marks is None else self.source.marks[self.positions]

    def fetch(self, positions: Tensor, crops: Sequence[Crop] | None = None) -> Tensor:
        """Return pictures by their position within the split; see :meth:`ImageSource.fetch`."""
        return self.source.fetch(self.positions[positions], crops)

    def subset(self, positions: Tensor) -> Split:
        """Return a split of some pictures of this one."""
        return Split(self.source, self.positions[positions])

    @classmethod
    def whole(cls, source: ImageSource) -> Split:
        """Return a split of all pictures of a source."""
        return cls(source, torch.arange(len(source.labels)))


@dataclass(frozen=True)
class DataSet:
    """Three splits and the preprocessing they share.

    Attributes:
        name: What reports call the data set.
        preprocess: Size, channels, mean, std and labels; the same for every stage.
        train: Pictures that weights are fitted to.
        validation: Held-out part of the training data; chooses everything that is chosen.
        test: Touched only to report.
        fingerprint: Identifies pictures and splits.
        notes: What was decided for the user (a hold-out that was made), to be printed.
        config: How to open it again, as ``DataSettings`` fields.
    """

    name: str
    preprocess: Preprocess
    train: Split
    validation: Split
    test: Split
    fingerprint: str
    notes: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)


def hold_out(split: Split, fraction: float, seed: int, labels: tuple[str, ...]) -> tuple[Split, Split]:
    """Split off a stratified, seeded part: the same fraction of every class, one picture at least.

    Args:
        split: The pictures to divide.
        fraction: Part to hold out, from 0 (nothing) to below 1.
        seed: Seed of the choice.
        labels: Class names, for messages.

    Returns:
        What remains, and what was held out.

    Raises:
        ImfDeployError: a class has too few pictures to be in both parts.
    """
    if fraction == 0:
        everything = torch.arange(len(split))
        return split, split.subset(everything[:0])
    generator = torch.Generator().manual_seed(seed)
    classes = split.labels
    held = torch.zeros(len(split), dtype=torch.bool)
    for index, label in enumerate(labels):
        members = (classes == index).nonzero().flatten()
        if len(members) < 2:
            raise ImfDeployError(
                f"class '{label}' has {len(members)} training image(s), too few to hold one out",
                "Add images to the class or remove its folder",
            )
        count = min(max(round(len(members) * fraction), 1), len(members) - 1)
        held[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return split.subset((~held).nonzero().flatten()), split.subset(held.nonzero().flatten())
