"""Image files: their limits, and the only place where they are opened. PyTorch is not imported."""

import io
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from imf_deploy.errors import ImfDeployError
from imf_deploy.untrusted import shorten

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


def read_file(path: Path) -> bytes:
    """Return the content of an image file.

    Raises:
        ImfDeployError: it cannot be read, is not a regular file, or is larger than :data:`LARGEST_FILE`.
    """
    try:
        if why := _not_a_file(path.stat()):
            raise unreadable(str(path), why)
        return path.read_bytes()
    except OSError as error:
        raise unreadable(str(path), error.strerror or str(error)) from error


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


def in_turn(image: Image.Image) -> AbstractContextManager[Any]:
    """Return what lets large images be decoded one at a time."""
    return _one_at_a_time if image.width * image.height > _ALONE else nullcontext()


@contextmanager
def opened(content: bytes, name: Callable[[], str]) -> Iterator[Image.Image]:
    """Open an image; whatever goes wrong with it becomes an error that names it.

    Args:
        content: The content of its file.
        name: Returns the name of the file for the error.

    Raises:
        ImfDeployError: it is not an image, is damaged, or is too large; raised for the body as well.
    """
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
    raise unreadable(name(), why)


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
