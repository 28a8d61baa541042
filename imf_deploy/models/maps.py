"""Recognise feature maps among the outputs of a network's modules, by their shapes alone."""

import math
from collections.abc import Sequence

from torch import Tensor

from imf_deploy.image_size import short_size
from imf_deploy.records.making import Block

PREFIXES = (0, 1, 2)
"""Numbers of tokens before a map: none, a class token, and DeiT's second one."""
Sides = tuple[int, int]
# Convolutions without padding remove a few pixels in all.
_ROUNDED, _REMOVED = 1, 3


def map_of(name: str, output: object, image: Sides, prefixes: Sequence[int]) -> Block | None:
    """Derive the layout of an output from its shape.

    Args:
        name: Name of the module.
        output: Its output for one image, of any type.
        image: Height and width of the image.
        prefixes: Possible numbers of tokens before the map of a network of tokens.

    Returns:
        ``None`` if it is not a feature map in the proportions of the image.
    """
    if not isinstance(output, Tensor):
        return None
    shape = tuple(output.shape)
    if len(shape) == 4 and _in_proportion(shape[2:], image):
        return Block(name, shape[1], short_size(shape[2:]))
    if len(shape) == 4 and _in_proportion(shape[1:3], image):
        return Block(name, shape[3], short_size(shape[1:3]), "nhwc")
    if len(shape) == 3:
        for extra in prefixes:
            if grid := _grid(shape[1] - extra, image):
                return Block(name, shape[2], short_size(grid), "tokens")
    return None


def _in_proportion(sides: tuple[int, ...], image: Sides) -> bool:
    """Return whether one reduction leads from the image to the map, up to rounding on each side."""
    height, width = sides
    if image[0] == image[1]:
        return height == width
    least = max(whole / (part + _REMOVED) for whole, part in zip(image, (height, width), strict=True))
    most = min(whole / max(part - _ROUNDED, 0.5) for whole, part in zip(image, (height, width), strict=True))
    return height <= image[0] and width <= image[1] and least <= most


def _grid(tokens: int, image: Sides) -> Sides | None:
    """Return height and width of the grid of patches that a number of tokens covers an image with."""
    if tokens < 1:
        return None
    if image[0] == image[1]:
        side = math.isqrt(tokens)
        return (side, side) if side * side == tokens else None
    for patch in range(1, max(image) + 1):
        for grid in ((image[0] // patch, image[1] // patch), (-(-image[0] // patch), -(-image[1] // patch))):
            if grid[0] * grid[1] == tokens:
                return grid
    return None
