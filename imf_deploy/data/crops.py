"""Random crops of training pictures, as ImageNet's trainings have them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
"""Part of the area, and width by height (Szegedy et al. 2015); torchvision's defaults."""


@dataclass(frozen=True)
class RandomCrop:
    """One random part of one picture, chosen as torchvision's ``RandomResizedCrop`` does.

    It follows from its seed alone, so it is the same in whichever process a picture is decoded.
    """

    seed: int

    def __call__(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return top, left, height and width in pixels."""
        from torchvision.transforms.v2 import RandomResizedCrop

        before = torch.random.get_rng_state()
        try:
            # Not torch.manual_seed, which would seed the GPUs as well.
            torch.default_generator.manual_seed(self.seed)
            box = RandomResizedCrop.get_params(torch.empty(0, height, width), list(SCALE), list(RATIO))
        finally:
            torch.random.set_rng_state(before)
        # A generator's length is not known; a box has four numbers.
        return tuple(int(value) for value in box)  # type: ignore[return-value]


def random_crops(positions: list[int], key: int) -> list[RandomCrop]:
    """Return a crop for every picture.

    Args:
        positions: Of the pictures within their split.
        key: Stands for the seed of the training and the epoch.
    """
    return [RandomCrop((key * 1_000_003 + position) % (1 << 63)) for position in positions]
