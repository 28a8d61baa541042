"""Random changes of training images, a whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imf_deploy.image_size import ImageSize, shape_of, short_size, sides
from imf_deploy.settings import BudgetSettings


@dataclass(frozen=True)
class Augment:
    """Random changes of training images.

    Attributes:
        shift: Largest shift in pixels, down and to the right as well as back; one number is for both. Pixels
            shifted in are black.
        flip: Whether half of the images are mirrored left to right.
        crop: Whether each image is cropped at random when it is fetched.
    """

    shift: int | tuple[int, int] = 2
    flip: bool = True
    crop: bool = False

    @classmethod
    def of(cls, config: BudgetSettings, image_size: ImageSize) -> Augment:
        """Return how a training changes images of a size."""
        if config.augment == "none":
            return cls(0, False)
        if config.augment == "crop-flip":
            return cls(0, config.flip, True)
        height, width = (round(side / 14) for side in shape_of(image_size)[1:])
        return cls(short_size((height, width)) if config.shift is None else config.shift, config.flip)

    @property
    def shifts(self) -> tuple[int, int]:
        """Largest shift down and to the right, in pixels."""
        return sides(self.shift)

    @property
    def border(self) -> list[int]:
        """The black border that shifts move in, as ``torch.nn.functional.pad`` takes it."""
        down, right = self.shifts
        return [right, right, down, down]

    @property
    def views(self) -> int | None:
        """The number of views of one image; ``None`` if random crops make them countless."""
        down, right = self.shifts
        return None if self.crop else (2 * down + 1) * (2 * right + 1) * (2 if self.flip else 1)

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
            view = down * (2 * self.shifts[1] + 1) + right
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
        if any(self.shifts):
            drawn = (torch.randint(0, 2 * most + 1, (count, 1), generator=generator) for most in self.shifts)
            offsets = torch.stack([*drawn])
        if self.flip:
            mirrored = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
        return Changes(offsets, mirrored)

    def apply(self, images: Tensor, changes: Changes) -> Tensor:
        """Change ``uint8 [B, C, H, W]`` as drawn, on the device of the images."""
        count, channels, height, width = images.shape
        device = images.device
        if changes.offsets is not None:
            padded = torch.nn.functional.pad(images, self.border)
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
