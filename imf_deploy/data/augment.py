"""Random changes of training images, a whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imf_deploy.settings import BudgetSettings


@dataclass(frozen=True)
class Augment:
    """Random changes of training images.

    Attributes:
        shift: Largest shift in each direction, in pixels; pixels shifted in are black.
        flip: Whether half of the images are mirrored left to right.
        crop: Whether each image is cropped at random when it is fetched.
    """

    shift: int = 2
    flip: bool = True
    crop: bool = False

    @classmethod
    def of(cls, config: BudgetSettings, size: int) -> Augment:
        """Return how a training changes images of ``size`` pixels per side."""
        if config.augment == "none":
            return cls(0, False)
        if config.augment == "crop-flip":
            return cls(0, config.flip, True)
        return cls(round(size / 14) if config.shift is None else config.shift, config.flip)

    @property
    def views(self) -> int | None:
        """The number of views of one image; ``None`` if random crops make them countless."""
        return None if self.crop else (2 * self.shift + 1) ** 2 * (2 if self.flip else 1)

    def view_of(self, positions: Tensor, changes: Changes) -> Tensor | None:
        """Return the number of each changed image among all views of all images, ``int64 [B]``.

        Args:
            positions: Positions of the images within their split, ``int64 [B]``.
            changes: Changes of these images.
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
        """Change ``uint8 [B, C, H, W]``, a whole batch at once; shape and type do not change.

        Changing whole batches of bytes costs about a tenth of transforming single images.
        """
        return self.apply(images, self.draw(len(images), generator))

    def draw(self, count: int, generator: torch.Generator) -> Changes:
        """Draw how each of ``count`` images is changed."""
        offsets = mirrored = None
        if self.shift:
            offsets = torch.randint(0, 2 * self.shift + 1, (2, count, 1), generator=generator)
        if self.flip:
            mirrored = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
        return Changes(offsets, mirrored)

    def apply(self, images: Tensor, changes: Changes) -> Tensor:
        """Change ``uint8 [B, C, H, W]`` as drawn, on the device of the images."""
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
    """The changes that :class:`Augment` drew for some images.

    Attributes:
        offsets: Shift of each image down and to the right, from 0: ``int64 [2, B, 1]``.
        mirrored: Whether each image is mirrored, ``bool [B, 1, 1, 1]``.
    """

    offsets: Tensor | None
    mirrored: Tensor | None

    def of(self, members: Tensor) -> Changes:
        """Return the changes of some of the images."""
        return Changes(
            None if self.offsets is None else self.offsets[:, members],
            None if self.mirrored is None else self.mirrored[members],
        )
