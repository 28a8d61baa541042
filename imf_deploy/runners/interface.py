"""Turn normalised images back into what a file with another input takes: bytes, in its order of axes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from imf_deploy.errors import ImfDeployError
from imf_deploy.image_size import sides
from imf_deploy.preprocess import Preprocess
from imf_deploy.runners.base import Batch
from imf_deploy.settings.export import InterfaceSettings

# Rounding to float32 changes a level by far less; images that were never bytes differ by up to a half.
_LEVEL = 1e-2


def as_input(batch: Batch, interface: InterfaceSettings, preprocess: Preprocess) -> Batch:
    """Return normalised images as a file takes them.

    Args:
        batch: Normalised images, ``float32 [N, C, H, W]``.
        interface: Input of the file.
        preprocess: How its images are normalised.

    Returns:
        The batch itself; or ``uint8`` of the same images, ``[N, C, H, W]`` or ``[N, H, W, C]``. For a file
        that scales and crops, they stand in the middle of larger ones, of which it takes this middle.

    Raises:
        ImfDeployError: the images are not normalised bytes.
    """
    if interface.input == "float":
        return batch
    pixels = _pixels(batch, preprocess)
    if interface.input == "uint8-nchw":
        return pixels
    if interface.input_size == "any":
        pixels = _in_the_middle(pixels, preprocess)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def _pixels(batch: Batch, preprocess: Preprocess) -> npt.NDArray[np.uint8]:
    """Return the bytes that were normalised, ``[N, C, H, W]``; one channel if the images are grey."""
    channels = preprocess.picture_shape[0]
    mean, std = (
        np.array(values, np.float64)[:channels].reshape(1, -1, 1, 1) * 255
        for values in (preprocess.mean, preprocess.std)
    )
    exact = batch[:, :channels] * std + mean
    levels = np.rint(exact)
    if not (np.abs(exact - levels).max(initial=0) < _LEVEL and levels.min() >= 0 and levels.max() <= 255):
        raise ImfDeployError(
            "a file that takes bytes can only be run on images that were bytes, and these were not",
            "Use the file with float input",
        )
    return np.ascontiguousarray(levels.astype(np.uint8))


def _in_the_middle(pixels: npt.NDArray[np.uint8], preprocess: Preprocess) -> npt.NDArray[np.uint8]:
    """Return larger images that the rule of scaling leaves as they are, and whose middle is the images."""
    wanted = np.array(sides(preprocess.size))
    # The shorter side of an input without a margin covers `resize_to` pixels.
    covered = np.maximum(np.rint(preprocess.resize_to * (wanted / wanted.min())).astype(int), wanted)
    before = (covered - wanted) // 2
    around = np.stack([before, covered - wanted - before], 1).tolist()
    return np.pad(pixels, [(0, 0), (0, 0), *around], mode="edge")
