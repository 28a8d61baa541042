"""Encoded images from any source by position, and their decoding."""

import hashlib
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from imf_deploy.data.image_file import in_turn, opened, read_file
from imf_deploy.preprocess import Crop, Preprocess
from imf_deploy.upright import Upright


class Pictures(Protocol):
    """Encoded images by position; pickled into the processes that decode them."""

    def __len__(self) -> int:
        """Return the number of images."""

    def name(self, position: int) -> str:
        """Return the name of an image in errors."""

    def read(self, position: int) -> bytes:
        """Return the content of an image file.

        Raises:
            ImfDeployError: the file cannot be read; the message names it.
        """

    def first_read(self, position: int) -> bytes:
        """Return the content of an image file like :meth:`read`, and keep what :meth:`digest` needs of it."""

    def digest(self) -> str:
        """Return a hash that identifies these images."""


@dataclass(frozen=True, eq=False)
class FilePictures:
    """Images that are separate files.

    Attributes:
        folder: Folder to which the names in :meth:`digest` are relative, so that it may be moved.
        paths: The files.
    """

    folder: Path
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, position: int) -> str:
        """Return the path."""
        return str(self.paths[position])

    def read(self, position: int) -> bytes:
        """Return the file's bytes."""
        return read_file(self.paths[position])

    def first_read(self, position: int) -> bytes:
        """Return the file's bytes, and keep their hash; threads may read different files."""
        content = self.read(position)
        self._hashes[position] = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
        return content

    def digest(self) -> str:
        """Return the hash of names and bytes."""
        whole = hashlib.sha256()
        for path, content in zip(self.paths, self._all_hashes(), strict=True):
            whole.update(os.fsencode(path.relative_to(self.folder)) + b"\n")
            whole.update(content.tobytes())
        return whole.hexdigest()

    def marks(self) -> Tensor:
        """Return a hash of every image's bytes, ``int64 [N]``."""
        return torch.from_numpy(self._all_hashes()[:, :8].copy().view("<i8")[:, 0])

    def _all_hashes(self) -> npt.NDArray[np.uint8]:
        """Return the SHA-256 of every file, ``uint8 [N, 32]``; files that were not read yet are read."""
        for position in np.flatnonzero(~self._hashes.any(axis=1)).tolist():
            self.first_read(position)
        return self._hashes

    @cached_property
    def _hashes(self) -> npt.NDArray[np.uint8]:
        return np.zeros((len(self), 32), np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        # Processes that decode do not need the hashes.
        return {name: value for name, value in vars(self).items() if name != "_hashes"}


def mark_of(content: bytes) -> int:
    """Return 64 bits of a hash, by which equal images are found."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little", signed=True)


def decode(pictures: Pictures, position: int, preprocess: Preprocess, crop: Crop | None = None) -> Tensor:
    """Decode one image into ``uint8 [C, size, size]``.

    Args:
        pictures: The images.
        position: Position of the image.
        preprocess: Preprocessing to apply.
        crop: See :meth:`Preprocess.load`.

    Raises:
        ImfDeployError: the file is not an image, is truncated, or is too large; the message names it.
    """
    return _decoded(pictures.read(position), pictures, position, preprocess, crop)


def decode_first(pictures: Pictures, position: int, preprocess: Preprocess) -> Tensor:
    """Decode one image like :func:`decode`, by :meth:`Pictures.first_read`."""
    return _decoded(pictures.first_read(position), pictures, position, preprocess)


def check(pictures: Pictures, position: int, preprocess: Preprocess) -> None:
    """Check that :func:`decode_first` would decode an image; it is not scaled, which saves most of the time.

    Raises:
        ImfDeployError: it would not; the message names the file.
    """
    with _opened(pictures.first_read(position), pictures, position) as image, in_turn(image):
        image.draft(None, (1, 1))  # of a JPEG, everything is read but little of it is transformed
        upright = Upright.of(image, preprocess.color)
        # A row shows whether the colours can be converted.
        upright.cut((0, 0, upright.size[0], 1))


def picture_size(pictures: Pictures, position: int) -> tuple[int, int]:
    """Return an image's width and height as stored, before any rotation.

    Raises:
        ImfDeployError: the file is not an image; the message names it.
    """
    with _opened(pictures.read(position), pictures, position) as image:
        return image.size


def _decoded(
    content: bytes, pictures: Pictures, position: int, preprocess: Preprocess, crop: Crop | None = None
) -> Tensor:
    with _opened(content, pictures, position) as image, in_turn(image):
        return torch.from_numpy(preprocess.load(image, crop).copy())


def _opened(content: bytes, pictures: Pictures, position: int) -> AbstractContextManager[Image.Image]:
    return opened(content, lambda: pictures.name(position))
