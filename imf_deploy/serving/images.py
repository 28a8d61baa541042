"""The images that a user names: files and folders, decoded by threads, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imf_deploy.compat import usable_cpus
from imf_deploy.data.image_file import SUFFIXES, in_turn, opened, read_file
from imf_deploy.data.walk import Walk, exists, images_below, real
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.preprocess import Preprocess
from imf_deploy.untrusted import shorten

Image = npt.NDArray[np.uint8]
# Images for each thread that may wait to be used.
_AHEAD = 4


def find_images(places: Sequence[Path | str]) -> list[Path]:
    """Return the given files, and the images in the given folders and their subfolders.

    A file is taken whatever its name; in folders, hidden files and those that are not named like an image
    are left out.

    Raises:
        UsageError: a place is empty or does not exist, or a folder has no images.
        ImfDeployError: a folder cannot be read.
    """
    if not places:
        raise UsageError("there are no images", "Name image files or folders")
    found: list[Path] = []
    for name in places:
        if not str(name):  # a path would take it for the current folder
            raise UsageError("the name of an image is empty", "Name image files or folders")
        place = Path(name)
        if exists(place, Path.is_dir):
            inside = images_below(place, Walk(real(place)))
            if not inside:
                raise UsageError(
                    f"the folder {place} has no images",
                    f"Images are named {', '.join(sorted(SUFFIXES)[:8])} …, and hidden files are left out",
                )
            found += inside
        elif exists(place):
            found.append(place)
        else:
            raise UsageError(f"there is no image or folder {shorten(str(place), 300)}", "Check the path")
    return found


def load_image(path: Path, preprocess: Preprocess) -> Image:
    """Return one image as ``uint8 [C, H, W]``.

    Raises:
        ImfDeployError: it is not an image, is damaged, or is too large; the message names it.
    """
    with opened(read_file(path), lambda: str(path)) as image, in_turn(image):
        return preprocess.load(image)


def load_images(
    paths: Iterable[Path], preprocess: Preprocess
) -> Iterator[tuple[Path, Image | ImfDeployError]]:
    """Yield every image in order, decoded by threads ahead of its use; or the error that names it."""

    def work(path: Path) -> Image | ImfDeployError:
        try:
            return load_image(path, preprocess)
        except ImfDeployError as error:
            return error

    cpus = usable_cpus()
    waiting: deque[tuple[Path, Future[Image | ImfDeployError]]] = deque()
    with ThreadPoolExecutor(cpus) as pool:
        try:
            for path in paths:
                waiting.append((path, pool.submit(work, path)))
                if len(waiting) > _AHEAD * cpus:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
