"""An upright image in the requested colours, without a converted copy of the whole of a large one.

Pillow takes 4 bytes per pixel of a colour image, and each step from the file to the network's input makes
another
copy: rotation, palette, colours. Here the rows of a large image are rotated, converted and scaled down piece
    by piece. A value may then differ by one from Pillow's result for the whole image, which is rounded in
    between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from imf_deploy.errors import ImfDeployError

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom are the first ones outside."""
WHOLE = 1 << 24
"""Maximum number of pixels of an image that is converted as a whole, which takes 64 MiB."""
PIECE = 1 << 22
"""Number of pixels of a larger image that are converted at a time."""


@dataclass(frozen=True)
class Upright:
    """A decoded image, seen upright.

    Attributes:
        image: The image as stored.
        color: The mode of the result of :meth:`scaled`.
        orientation: How it is stored, from 1 (upright) to 8, as in EXIF.
    """

    image: Image.Image
    color: Literal["RGB", "L"]
    orientation: int

    @classmethod
    def of(cls, image: Image.Image, color: Literal["RGB", "L"]) -> Upright:
        """Decode an image.

        Raises:
            ImfDeployError: the image has 32-bit pixels, whose range is unknown.
        """
        image.load()
        if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
            raise ImfDeployError("its pixels have 32 bits, and the value of white is unknown")
        if image.mode == "P":
            # Transparency is dropped; with this entry Pillow would warn about it.
            image.info.pop("transparency", None)
        orientation = image.getexif().get(0x0112, 1)
        return cls(image, color, orientation if orientation in range(2, 9) else 1)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = self.image.size
        return (height, width) if self.orientation >= 5 else (width, height)

    def cut(self, box: Box) -> Image.Image:
        """Return a part, converted."""
        stored = self._stored(box)
        part = self.image if stored == (0, 0, *self.image.size) else self.image.crop(stored)
        turn = _TURNS.get(self.orientation)
        return self._converted(part) if turn is None else self._converted(part).transpose(turn)

    def scaled(
        self, size: tuple[int, int], box: Box, interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    ) -> Image.Image:
        """Scale a part, as ``Image.resize(size, BILINEAR, box)`` does.

        Args:
            size: Width and height in pixels.
            box: The part to scale. The filter also reads the pixels next to it.
            interpolation: The filter.
        """
        width, height = self.size
        kind = Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR
        if width * height <= WHOLE:
            return self.cut((0, 0, width, height)).resize(size, kind, box)
        left, top, right, bottom = box
        # The distance that the filter reaches beyond the box.
        support = 2 if interpolation == "bicubic" else 1
        reach = support * -(-(bottom - top) // size[1]) + support
        first, last = max(top - reach, 0), min(bottom + reach, height)
        rows = max(PIECE // width, 1)
        narrow = Image.new(self.color, (size[0], last - first))
        for start in range(first, last, rows):
            end = min(start + rows, last)
            piece = self.cut((0, start, width, end))
            piece = piece.resize((size[0], end - start), kind, (left, 0, right, end - start))
            narrow.paste(piece, (0, start - first))
        return narrow.resize(size, kind, (0, top - first, size[0], bottom - first))

    def _stored(self, box: Box) -> Box:
        """Return the position of a part in the image as stored."""
        left, top, right, bottom = box
        width, height = self.image.size
        if self.orientation >= 5:
            left, top, right, bottom = top, left, bottom, right
        if self.orientation in (2, 3, 7, 8):
            left, right = width - right, width - left
        if self.orientation in (3, 4, 6, 7):
            top, bottom = height - bottom, height - top
        return left, top, right, bottom

    def _converted(self, part: Image.Image) -> Image.Image:
        """Return a part in the mode ``color``; 16-bit channels keep their high byte."""
        # Older versions of Pillow open 16-bit PNG and PNM as 32-bit integers.
        if part.mode.startswith("I;16") or part.mode == "I":
            # Pillow clips at 255 on conversion. For 16-bit colour it uses the high byte, as here.
            part = Image.fromarray((np.asarray(part).astype(np.uint16) >> 8).astype(np.uint8))
        return part if part.mode == self.color else part.convert(self.color)
