"""Encoded images from any source, and the only place where they are decoded."""

import hashlib
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from imf_deploy.errors import ImfDeployError
from imf_deploy.preprocess import Crop, Preprocess
from imf_deploy.untrusted import shorten
from imf_deploy.upright import Upright

# The type is detected from the content, not the name. Unlike for EPS, no reader here starts another program.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "PPM", "TIFF")
SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp"),
        *(".bmp", ".ppm", ".pgm", ".pbm", ".tif", ".tiff"),
    }
)
"""Lower-case extensions of file names that are treated as images."""
LARGEST_FILE = 256 << 20
"""Maximum size of an encoded image in bytes; it is read as a whole."""
MOST_PIXELS = 89_478_485
"""Maximum number of pixels; above it, Pillow warns of decompression bombs (341 MiB of colour)."""
LONGEST_RATIO = 1000
"""Maximum ratio of the sides; the middle of a longer image shows nothing that could be classified."""
# Larger images are decoded one at a time, regardless of the number of threads.
_ALONE = 1 << 24
_one_at_a_time = threading.Lock()


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
        path = self.paths[position]
        try:
            if why := _not_a_file(path.stat()):
                raise unreadable(str(path), why)
            return path.read_bytes()
        except OSError as error:
            raise unreadable(str(path), error.strerror or str(error)) from error

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


_KINDS = {
    stat.S_IFREG: "",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def _not_a_file(about: os.stat_result) -> str | None:
    """Return why a file cannot be an image, regardless of its content: reading it might never end."""
    if kind := _KINDS.get(stat.S_IFMT(about.st_mode), "not a regular file"):
        return f"it is {kind}"
    return f"it is larger than {LARGEST_FILE >> 20} MiB" if about.st_size > LARGEST_FILE else None


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
    with _opened(pictures.first_read(position), pictures, position) as image, _in_turn(image):
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
    with _opened(content, pictures, position) as image, _in_turn(image):
        return torch.from_numpy(preprocess.load(image, crop).copy())


def _in_turn(image: Image.Image) -> AbstractContextManager[Any]:
    """Return what lets large images be decoded one at a time."""
    return _one_at_a_time if image.width * image.height > _ALONE else nullcontext()


@contextmanager
def _opened(content: bytes, pictures: Pictures, position: int) -> Iterator[Image.Image]:
    """Open an image; whatever goes wrong with it becomes an error that names it."""
    _silence()
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_size(image)
            yield image
        return
    except UnidentifiedImageError:
        why = f"it is not one of {', '.join(FORMATS)}" if content else "it is empty"
    except ImfDeployError as error:
        why = error.what
    except Exception as error:  # Pillow's readers raise anything for a broken file
        why = shorten(str(error))
    raise unreadable(pictures.name(position), why)


def _check_size(image: Image.Image) -> None:
    """Refuse an image that would fill the memory; only its header has been read.

    Raises:
        ImfDeployError: the image has too many pixels, or is too narrow to show anything.
    """
    width, height = image.size
    most = MOST_PIXELS // _copies(image)
    if width * height > most:
        raise ImfDeployError(f"it has {width}x{height} pixels; the maximum for {image.format} is {most:,}")
    if max(width, height) > LONGEST_RATIO * min(width, height):
        raise ImfDeployError(
            f"it has {width}x{height} pixels: one side is more than {LONGEST_RATIO:,} times the other"
        )


def _copies(image: Image.Image) -> int:
    """Return how many copies of an image its reader keeps at a time, as measured."""
    if image.format == "WEBP":
        return 4
    progressive = image.format == "JPEG" and image.info.get("progressive")
    turned = image.format == "TIFF" and image.getexif().get(0x0112, 1) != 1
    return 2 if progressive or turned else 1


_CANNOT = "cannot read the image "


def unreadable(name: str, why: str) -> ImfDeployError:
    """Return the error for an image that cannot be used."""
    return ImfDeployError(f"{_CANNOT}{name} ({why})", "Repair or remove it and run again")


def several_unreadable(errors: Sequence[ImfDeployError], more: bool) -> ImfDeployError:
    """Return one error for several images that cannot be used; it names the first three.

    Args:
        errors: The error of each image.
        more: Whether there may be more of them.
    """
    named = "; ".join(error.what.removeprefix(_CANNOT) for error in errors[:3])
    count = f"{len(errors)} images or more" if more else f"{len(errors)} images"
    rest = " …" if more or len(errors) > 3 else ""
    return ImfDeployError(f"cannot read {count}: {named}{rest}", "Repair or remove them and run again")


@cache
def _silence() -> None:
    """Silence Pillow's warnings about large images and damaged EXIF records: they do not name the file."""
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
