"""A folder of pictures in the usual form: ``train/CLASS/*.png``, ``val/CLASS/*``."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imf_deploy.data.dataset import DataSet
from imf_deploy.data.encoded import Part, open_parts
from imf_deploy.data.pictures import SUFFIXES, FilePictures
from imf_deploy.errors import ImfDeployError, UsageError

_HELD_OUT_NAMES = ("val", "valid", "validation")


def open_folder(folder: Path, image_size: int) -> DataSet:
    """Open a folder of pictures; splits that it does not have are left empty.

    ``train`` with ``val`` reports on ``val``; with ``test`` as well, ``val`` chooses and ``test``
    reports; class folders directly in ``folder`` are one training split. Pictures in folders inside a
    class folder are of that class; links are followed. Hidden files are left out, other files that are
    no pictures as well, and a note says how many.

    Every picture is decoded once, so that a corrupt one is named before any training.

    Args:
        folder: The folder.
        image_size: Side of the network's input in pixels; 0 takes 224, or the pictures' own size
            where they are square, of one size, and smaller than 64.

    Raises:
        ImfDeployError: no images, one class, different classes in the splits, a corrupt picture.
    """
    train_folder = folder / "train" if (folder / "train").is_dir() else folder
    held = next((folder / n for n in _HELD_OUT_NAMES if (folder / n).is_dir()), None)
    test_folder = folder / "test" if (folder / "test").is_dir() else None
    if train_folder is folder and (held or test_folder):
        raise UsageError(f"{folder} has {(held or test_folder)} but no train folder", "Add train/CLASS/*.png")
    seen = _Seen(folder.resolve())
    classes, train = _scan(folder, train_folder, seen)
    parts = {"train": train}
    for role, part in (("validation", held), ("test", test_folder)):
        if not part:
            continue
        names, parts[role] = _scan(folder, part, seen)
        if names != classes:
            missing, surplus = sorted(set(classes) - set(names)), sorted(set(names) - set(classes))
            raise ImfDeployError(
                f"{part} has other classes than {train_folder} (missing: {missing}, surplus: {surplus})",
                "Give every split a folder for every class",
            )
    data = open_parts(folder.resolve().name, parts, classes, image_size, str(held))
    return DataSet(**{**vars(data), "notes": (*seen.notes(), *data.notes)})


@dataclass
class _Seen:
    """What a scan met besides pictures inside the folder."""

    root: Path
    ignored: list[Path] = field(default_factory=list)
    outside: int = 0

    def notes(self) -> tuple[str, ...]:
        """Return what the user should know of it, as sentences."""
        notes = []
        if self.ignored:
            notes.append(
                f"{len(self.ignored)} file(s) were ignored, as they are no images or lie in no class folder: "
                + ", ".join(map(str, self.ignored[:3]))
                + (" …" if len(self.ignored) > 3 else "")
            )
        if self.outside:
            notes.append(f"{self.outside} image(s) are links to files outside of {self.root}; they are used")
        return tuple(notes)


def _scan(folder: Path, part: Path, seen: _Seen) -> tuple[list[str], Part]:
    """Return class names and pictures of a split, in the order of torchvision's ``ImageFolder``."""
    folders: dict[str, list[Path]] = {}
    for entry in _entries(part):
        if entry.is_dir():
            # macOS writes an é as two characters, and most others as one.
            name = unicodedata.normalize("NFC", entry.name)
            folders.setdefault(_readable(name, entry), []).append(entry)
        else:
            seen.ignored.append(entry)
    paths: list[Path] = []
    labels: list[int] = []
    empty = []
    for label, name in enumerate(sorted(folders)):
        found = [path for place in sorted(folders[name]) for path in _pictures(place, seen)]
        if not found:
            empty.append(name)
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise ImfDeployError(
            f"{part} holds no usable images in class folders",
            "Put them into one folder per class, such as train/CLASS/*.png",
        )
    if empty:
        raise ImfDeployError(
            f"{part} holds no usable images in the class folder(s) {', '.join(empty)}",
            "Add images or remove the folder",
        )
    if len(folders) < 2:
        raise ImfDeployError(
            f"{part} has one class only ({next(iter(folders))})",
            "A classifier needs two class folders or more",
        )
    return sorted(folders), Part(FilePictures(folder, tuple(paths)), labels)


def _pictures(place: Path, seen: _Seen) -> Iterator[Path]:
    """Yield a class folder's pictures, then those of the folders inside it."""
    # A link to a folder further up would be walked for ever.
    waiting, visited = [place], set(place.resolve().parents)
    while waiting:
        current = waiting.pop()
        real, inside = current.resolve(), []
        if real in visited:
            continue
        visited.add(real)
        elsewhere = not real.is_relative_to(seen.root)
        for entry in _entries(current):
            if entry.is_dir():
                inside.append(entry)
            elif entry.suffix.lower() in SUFFIXES:
                if elsewhere or (entry.is_symlink() and not entry.resolve().is_relative_to(seen.root)):
                    seen.outside += 1
                yield entry
            else:
                seen.ignored.append(entry)
        waiting += reversed(inside)


def _entries(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted, without hidden files and folders.

    Raises:
        ImfDeployError: it cannot be read.
    """
    try:
        return sorted(Path(e) for e in os.scandir(folder) if not e.name.startswith("."))
    except OSError as error:
        raise ImfDeployError(
            f"cannot read the folder {folder} ({error.strerror})", "Change its permissions or leave it out"
        ) from error


def _readable(name: str, folder: Path) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ImfDeployError(
            f"the name of the class folder {os.fsencode(folder)!r} is not UTF-8", "Rename it"
        ) from error
    return name
