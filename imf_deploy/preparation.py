"""How pretrained weights expect images to be prepared, whatever classes they are used for."""

from __future__ import annotations

from dataclasses import dataclass

from imf_deploy.image_size import Size, sides
from imf_deploy.preprocess import Interpolation, Preprocess


@dataclass(frozen=True)
class Preparation:
    """The part of a :class:`Preprocess` that belongs to weights, not to data.

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

    @classmethod
    def of(cls, preprocess: Preprocess) -> Preparation | None:
        """Return the preparation of a record; ``None`` if it is not known how images become the input."""
        if preprocess.resize == "input":
            return None
        fraction = 1.0 if preprocess.resize == "none" else min(sides(preprocess.size)) / preprocess.resize_to
        return cls(
            preprocess.size, min(fraction, 1.0), preprocess.mean, preprocess.std, preprocess.interpolation
        )
