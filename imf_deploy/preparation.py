"""How pretrained weights expect images to be prepared, whatever classes they are used for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imf_deploy.image_size import Size

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Preparation:
    """The part of a :class:`imf_deploy.preprocess.Preprocess` that belongs to weights, not to data.

    Attributes:
        size: Size of the input.
        crop_fraction: Part of the scaled image's shorter side that the centre crop keeps, above 0, at most 1.
        mean: Mean of each channel, on the scale where white is 1.
        std: Standard deviation of each channel, on the same scale.
        interpolation: Filter by which images are scaled.
    """

    size: Size
    crop_fraction: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = "bilinear"

    def for_channels(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation for an input of 3 channels, or 1 (ours).

        One channel has the means of both over the three channels, and three have those of the one.
        """
        if len(self.mean) == channels:
            return self.mean, self.std
        if channels == 1:
            return (sum(self.mean) / len(self.mean),), (sum(self.std) / len(self.std),)
        return self.mean * channels, self.std * channels
