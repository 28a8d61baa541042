"""Walk through folders that may contain anything: links to themselves, devices, or a whole disk."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from imf_deploy.data.image_file import SUFFIXES
from imf_deploy.errors import ImfDeployError

OTHERS_LIMIT = 100_000
"""Number of other files from which on a folder with few images is not considered a data set."""


@dataclass
class Walk:
    """Files found by a walk through a folder of images.

    Attributes:
        root: The folder, with all links followed.
        ignored: The first files that are not images, or are outside class folders.
        others: Number of these files.
        images: Number of images.
        outside: Number of images that are links to files outside the folder.
    """

    root: Path
    ignored: list[Path] = field(default_factory=list)
    others: int = 0
    images: int = 0
    outside: int = 0

    def ignore(self, path: Path) -> None:
        """Count a file that is not an image.

        Raises:
            ImfDeployError: there are so many that the folder is probably the wrong one.
        """
        self.others += 1
        if len(self.ignored) < 3:
            self.ignored.append(path)
        if self.others > OTHERS_LIMIT + 10 * self.images:
            raise ImfDeployError(
                f"{self.root} does not look like a folder of images: it holds more than {OTHERS_LIMIT:,} "
                f"other files, such as {path}",
                "Use `data` with the folder that holds the splits or the class folders",
            )

    def notes(self) -> tuple[str, ...]:
        """Return notes for the user, as sentences."""
        notes = []
        if self.others:
            notes.append(
                f"{self.others} file(s) were ignored, because they are not images or not in a class folder: "
                + ", ".join(map(str, self.ignored))
                + (" …" if self.others > len(self.ignored) else "")
            )
        if self.outside:
            notes.append(f"{self.outside} image(s) are links to files outside {self.root}; they are used")
        return tuple(notes)


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted, without hidden files and folders.

    Raises:
        ImfDeployError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as listing:
            # The folder __MACOSX that macOS adds to an archive contains only hidden files.
            shown = (e for e in listing if not e.name.startswith(".") and e.name != "__MACOSX")
            return sorted(shown, key=lambda entry: entry.name)
    except OSError as error:
        raise ImfDeployError(
            f"cannot read the folder {folder} ({error.strerror})", "Change its permissions or leave it out"
        ) from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one; a link to itself is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_image_name(name: str) -> bool:
    """Return whether a file name has the extension of an image."""
    stem, dot, ending = name.rpartition(".")
    return bool(stem) and f"{dot}{ending.lower()}" in SUFFIXES


def images_below(place: Path, walk: Walk) -> list[Path]:
    """Return the images of a class folder, then those of its subfolders, each folder once."""
    images: list[Path] = []
    # A link to a parent folder would be followed for ever.
    waiting, visited = [place], {str(parent) for parent in real(place).parents}
    while waiting:
        current = waiting.pop()
        where, inside = real(current), []
        if str(where) in visited:
            continue
        visited.add(str(where))
        elsewhere = not where.is_relative_to(walk.root)
        for entry in entries(current):
            path = Path(entry.path)
            if is_folder(entry):
                inside.append(path)
            elif is_image_name(entry.name):
                walk.images += 1
                if elsewhere or (entry.is_symlink() and not real(path).is_relative_to(walk.root)):
                    walk.outside += 1
                images.append(path)
            else:
                walk.ignore(path)
        waiting += reversed(inside)
    return images


def exists(path: Path, test: Callable[[Path], bool] = Path.exists) -> bool:
    """Return whether a path exists; a path that no file system accepts, such as a very long one, does not.

    Args:
        path: The path.
        test: The required type, such as ``Path.is_dir``.
    """
    try:
        return test(path)
    except (OSError, ValueError):
        return False


def real(path: Path) -> Path:
    """Return a path with its links followed as far as possible; a link to itself is kept."""
    return Path(os.path.realpath(path))
