"""Random crops of training images, as in ImageNet trainings."""

from dataclasses import dataclass

import torch

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
"""Part of the area, and width by height for square input (Szegedy et al. 2015); torchvision's defaults."""


@dataclass(frozen=True)
class RandomCrop:
    """A random crop of one image, chosen as torchvision's ``RandomResizedCrop`` does.

    It depends only on its seed, so it is the same in every process that decodes the image.

    Attributes:
        seed: Seed of the draw.
        aspect: Width by height of the network's input, by which the proportions of crops are multiplied.
    """

    seed: int
    aspect: float = 1.0

    def __call__(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return top, left, height and width in pixels."""
        from torchvision.transforms.v2 import RandomResizedCrop

        before = torch.random.get_rng_state()
        try:
            # torch.manual_seed would also seed the GPUs.
            torch.default_generator.manual_seed(self.seed)
            ratio = [self.aspect * bound for bound in RATIO]
            box = RandomResizedCrop.get_params(torch.empty(0, height, width), list(SCALE), ratio)
        finally:
            torch.random.set_rng_state(before)
        # The type of a list from a generator has no length; a box has four numbers.
        return tuple(int(value) for value in box)  # type: ignore[return-value]


def random_crops(numbers: list[int], key: int, aspect: float = 1.0) -> list[RandomCrop]:
    """Return a crop for every image.

    Args:
        numbers: A number for each image, such as its position within its split.
        key: Number that stands for the seed of the training and the epoch.
        aspect: Width by height of the network's input.
    """
    return [RandomCrop((key * 1_000_003 + number) % (1 << 63), aspect) for number in numbers]
