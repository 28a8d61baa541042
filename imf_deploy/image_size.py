"""The size of a network's input and of its feature maps, in the short form of options and records.

A square is its side in pixels, any other map its height and width. An input with one channel instead of three
begins with the number of its channels.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from imf_deploy.errors import UsageError
from imf_deploy.limits import LARGEST_SIDE


def _one_problem(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Report one problem instead of one for each form that a size may have."""
    try:
        return validate(tuple(value) if isinstance(value, list) else value)  # JSON has no tuples
    except ValidationError:
        raise ValueError(f"Input should be a size in pixels, from 1 to {LARGEST_SIDE}") from None


def _supported(channels: int) -> int:
    if channels not in CHANNELS:
        raise ValueError("Input should be 1 or 3 channels")
    return channels


CHANNELS = (1, 3)
"""Numbers of channels that a network's input may have."""
Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
Size = Annotated[Side | tuple[Side, Side], WrapValidator(_one_problem)]
"""Size of an image or a feature map in pixels: the side of a square, or height and width."""
ImageSize = Annotated[
    Side | tuple[Side, Side] | tuple[Annotated[int, AfterValidator(_supported)], Side, Side],
    WrapValidator(_one_problem),
]
"""Size of a network's input: as :data:`Size` for three channels, or channels, height and width."""
Shape = tuple[int, int, int]
"""Channels, height and width of a network's input."""

_NUMBER = re.compile(r"[0-9]{1,9}")


def sides(size: Size) -> tuple[int, int]:
    """Return height and width of a size."""
    return size if isinstance(size, tuple) else (size, size)


def shape_of(size: ImageSize) -> Shape:
    """Return channels, height and width of a network's input."""
    if isinstance(size, tuple):
        return size if len(size) == 3 else (3, *size)
    return 3, size, size


def short(shape: tuple[int, ...]) -> ImageSize:
    """Return the short form of ``(height, width)`` or ``(channels, height, width)``.

    Raises:
        ValueError: there are other numbers of values.
    """
    *channels, height, width = shape
    if len(channels) > 1:
        raise ValueError(f"{list(shape)} is not the size of an image")
    if channels and channels != [3]:
        return channels[0], height, width
    return height if height == width else (height, width)


def short_size(size: Size) -> Size:
    """Return the short form of a size, in which a square is its side."""
    height, width = sides(size)
    return height if height == width else (height, width)


def undistorted(size: Size, like: Size) -> Size:
    """Return a size with the same shorter side, in the proportions of another size."""
    shorter, (height, width) = min(sides(size)), sides(like)
    return short_size((round(shorter * max(height / width, 1)), round(shorter * max(width / height, 1))))


def size_text(size: ImageSize) -> str:
    """Return a size as it is written on the command line: ``28``, ``24x40``, ``1x24x40``."""
    return "x".join(map(str, size)) if isinstance(size, tuple) else str(size)


def pixels_text(size: ImageSize) -> str:
    """Return a size for messages: ``28 pixels``, ``24x40 pixels``, or with one channel."""
    channels, height, width = shape_of(size)
    square = str(height) if height == width else f"{height}x{width}"
    return f"{square} pixels{'' if channels == 3 else f' and {channels} channel'}"


def read_size(text: str) -> Size:
    """Read the form of :func:`size_text` without channels; the sides are not checked.

    Raises:
        ValueError: it has another form.
    """
    numbers = _numbers(text)
    if not 1 <= len(numbers) <= 2:
        raise ValueError("it is neither a side in pixels, such as 224, nor HEIGHTxWIDTH, such as 160x256")
    return short_size((numbers[0], numbers[-1]))


def read_image_size(text: str) -> ImageSize:
    """Read the form of :func:`size_text`; the sides and the channels are not checked.

    Raises:
        ValueError: it has another form.
    """
    numbers = _numbers(text)
    return short(numbers) if len(numbers) == 3 else read_size(text)


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.strip().lower().split("x")
    return tuple(map(int, parts)) if all(map(_NUMBER.fullmatch, parts)) else ()


def check_image_size(size: ImageSize, smallest: int, largest: int = LARGEST_SIDE) -> None:
    """Refuse an ``image_size`` that no network could use.

    Args:
        size: The value of the option.
        smallest: Smallest side in pixels.
        largest: Largest side in pixels.

    Raises:
        UsageError: a side is too small or too large, or there are neither 1 nor 3 channels.
    """
    channels, *both = shape_of(size)
    if channels not in CHANNELS:
        raise UsageError(f"`image_size` {size_text(size)} has {channels} channels", "Give 1 or 3 channels")
    if not all(smallest <= side <= largest for side in both):
        wrong = "small" if min(both) < smallest else "large"
        raise UsageError(
            f"`image_size` {size_text(size)} is too {wrong}",
            f"Give {smallest} to {largest} pixels for the side, or for each of HEIGHTxWIDTH",
        )
