"""Training images that stay on a GPU as bytes: an epoch sends only positions and changes of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from imf_deploy.data.augment import Augment, Changes
from imf_deploy.data.dataset import MemoryImages, Split

SHARE = 0.25
"""Fraction of a device's free memory that images may use."""


class ResidentImages:
    """All images of a split on a device, with the black border that shifts move in.

    Args:
        images: Images on any device, ``uint8 [N, C, H, W]``.
        labels: Classes, ``int64 [N]``.
        augment: How images are changed, without crops.
        device: Device to keep them on.
    """

    def __init__(self, images: Tensor, labels: Tensor, augment: Augment, device: torch.device) -> None:
        self._augment = augment
        self._images = torch.nn.functional.pad(images.to(device), augment.border)
        self._labels = labels.to(device)
        self._device = device
        self._height, self._width = images.shape[-2:]

    @classmethod
    def of(cls, split: Split, augment: Augment, device: torch.device) -> ResidentImages | None:
        """Move a split to a CUDA device.

        Returns:
            ``None`` if its images are not in memory, are cropped at random, or would take more than
            :data:`SHARE` of the free memory.
        """
        source = split.source
        if device.type != "cuda" or augment.crop or not isinstance(source, MemoryImages):
            return None
        channels, height, width = source.images.shape[1:]
        down, right = augment.shifts
        # While the border is added, there are two copies.
        taken = 2 * len(split) * channels * (height + 2 * down) * (width + 2 * right)
        if taken > SHARE * torch.cuda.mem_get_info(device)[0]:
            return None
        return cls(source.images[split.positions], split.labels, augment, device)

    def batches(
        self, chunks: Sequence[Tensor], changes: Sequence[Changes]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of changed images.

        All draws are sent to the device at once, before the first batch.

        Args:
            chunks: Positions of each batch's images in the split, ``int64 [B]`` each.
            changes: Changes of these images.

        Yields:
            ``uint8 [B, C, H, W]``, and ``int64 [B]``.
        """
        if not chunks:
            return
        every = torch.stack([*chunks]).to(self._device)
        column, line = (torch.arange(side, device=self._device) for side in (self._height, self._width))
        backwards = line.flip(0)
        planes = torch.arange(self._images.shape[1], device=self._device)[:, None, None]
        down = right = mirrored = None
        if any(self._augment.shifts):
            offsets = torch.stack([c.offsets for c in changes if c.offsets is not None]).to(self._device)
            down, right = offsets[:, 0, :, :, None, None], offsets[:, 1, :, :, None, None]
        if self._augment.flip:
            mirrored = torch.stack([c.mirrored for c in changes if c.mirrored is not None]).to(self._device)
        for index, positions in enumerate(every):
            columns = line if mirrored is None else torch.where(mirrored[index], backwards, line)
            rows = column[:, None]
            if down is not None and right is not None:
                rows, columns = rows + down[index], columns + right[index]
            yield self._images[positions[:, None, None, None], planes, rows, columns], self._labels[positions]
