"""Two classifiers on the same images: is one of them more often correct?"""

from __future__ import annotations

import math
from dataclasses import dataclass

_Z95 = 1.959964


@dataclass(frozen=True)
class Paired:
    """The images on which only one of two classifiers is correct.

    Attributes:
        images: Number of images.
        gained: Number of images on which only the new one is correct.
        lost: Number of images on which only the other one is correct.
    """

    images: int
    gained: int
    lost: int

    @property
    def difference(self) -> float:
        """Accuracy of the new one minus that of the other, from -1 to 1."""
        return (self.gained - self.lost) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of :attr:`difference`.

        Source: Agresti and Min 2005, Simple improved confidence intervals for comparing matched proportions:
        half an image is added to each of the four cells.
        """
        images, apart = self.images + 2, self.gained - self.lost
        spread = math.sqrt(max(self.gained + self.lost + 1 - apart**2 / images, 0.0))
        centre, half = apart / images, _Z95 * spread / images
        return max(centre - half, -1.0), min(centre + half, 1.0)

    @property
    def p_value(self) -> float:
        """Two-sided p-value of McNemar's exact test that both are equally often correct.

        If they are, each image on which only one is correct is a throw of a fair coin. Source: McNemar 1947.
        """
        thrown, fewer = self.gained + self.lost, min(self.gained, self.lost)
        ways = total = 1
        for count in range(fewer):
            ways = ways * (thrown - count) // (count + 1)
            total += ways
        return min(2 * total / (1 << thrown), 1.0)
