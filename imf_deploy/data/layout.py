"""Decide which folders of a data set are splits, and which are classes.

A folder of images has one of two forms: ``SPLIT/CLASS/*.png`` or ``CLASS/*.png``. The names decide if they
can, and otherwise the contents of the folders. A layout that fits both forms is refused: if a split were
mistaken for a class, the network would learn to distinguish splits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from imf_deploy.data.roles import ROLES, Role, role_of, word_in
from imf_deploy.data.walk import entries, is_folder, is_image_name
from imf_deploy.errors import UsageError

_FOLD = re.compile(r"(?:k?-?fold|split|part(?:ition)?|subset|cv)s?[\W_]*\d+", re.IGNORECASE)
_HINT = "Name the splits train, val and test"


@dataclass(frozen=True)
class Layout:
    """The locations of the class folders of every split.

    Attributes:
        splits: Folders that contain class folders, always with ``train``, in the order train, validation,
            test.
        notes: Decisions made for the user, as sentences.
    """

    splits: dict[Role, Path]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Top:
    """A folder at the top of a data set.

    Attributes:
        path: The folder.
        role: The split that its name stands for.
        folders: Names of the folders inside it.
        images: Number of images directly in the folder.
        deeper: Number of images in its subfolders, counted up to ``images``.
    """

    path: Path
    role: Role | None
    folders: frozenset[str]
    images: int
    deeper: int

    @classmethod
    def of(cls, path: Path) -> _Top:
        inside = [(entry.name, is_folder(entry)) for entry in entries(path)]
        folders = frozenset(name for name, folder in inside if folder)
        images = sum(not folder and is_image_name(name) for name, folder in inside)
        return cls(path, role_of(path.name), folders, images, _images_in(path, folders, images))

    @property
    def flat(self) -> bool:
        """Whether it contains images as a class does; a few loose ones do not make a split a class."""
        return self.images > 0 and (len(self.folders) < 2 or self.images > self.deeper)

    @property
    def nested(self) -> bool:
        """Whether it contains folders as a split does."""
        return bool(self.folders) and not self.flat


def _images_in(path: Path, folders: Iterable[str], most: int) -> int:
    """Return the number of images directly in some folders; counting stops at ``most``."""
    count = 0
    for name in folders:
        if count >= most:
            break
        count += sum(not is_folder(entry) and is_image_name(entry.name) for entry in entries(path / name))
    return min(count, most)


def find_layout(folder: Path) -> Layout:
    """Distinguish splits from classes.

    Raises:
        UsageError: there are two folders for one split, there is no training split, or folders fit both
            forms; the message names them.
        ImfDeployError: a folder cannot be read.
    """
    tops = [_Top.of(Path(entry.path)) for entry in entries(folder) if is_folder(entry)]
    splits = [top for top in tops if top.role and not top.flat]
    if not splits:
        return _classes(folder, tops)
    others = [top for top in tops if top not in splits]
    _check_splits(folder, splits, others)
    train = next(top for top in splits if top.role == "train")
    unlabelled = [top for top in splits if _is_unlabelled(top, train)]
    splits, others = [top for top in splits if top not in unlabelled], others + unlabelled
    roles: dict[Role, Path] = {}
    for role in ROLES:
        for top in splits:
            if top.role == role:
                roles[role] = _undouble(top.path)
    return Layout(roles, _ignored(others))


def _check_splits(folder: Path, splits: list[_Top], others: list[_Top]) -> None:
    """Refuse splits whose role is ambiguous, and classes next to them."""
    roles = Counter(top.role for top in splits)
    classes = [top for top in others if top.flat and not top.role]
    if classes and len(roles) == 1 and not any(top.role for top in others):
        name = splits[0].path.name
        raise UsageError(
            f"{folder} holds {name}, which is the name of a split and has no images directly in it, next to "
            f"{_some(top.path.name for top in classes)}, which look like classes",
            f"If {name} is a class, put its images directly into it; if it is a split, move the others away",
        )
    alike = [top for top in others if not top.role and top.nested and top.folders & splits[0].folders]
    if alike and len(roles) == 1:
        name, shared = splits[0].path.name, _some(alike[0].folders & splits[0].folders)
        raise UsageError(
            f"{folder} holds {_some(top.path.name for top in alike)}, with folders of the same names as in "
            f"{name} ({shared})",
            f"If {name} is a class, put all images directly into the class folders; if it is a split, move "
            "the others away",
        )
    if "train" not in roles:
        raise UsageError(
            f"{folder} has {splits[0].path} but no train folder",
            "Add train/CLASS/*.png, or rename the folder",
        )
    for role, count in roles.items():
        if count > 1:
            names = [str(top.path) for top in splits if top.role == role]
            raise UsageError(
                f"{' and '.join(names)} are names of the same split ({role})",
                "Rename or move away all but one; the usual names are train, val and test",
            )


def _ignored(others: list[_Top]) -> tuple[str, ...]:
    """Return notes on the folders next to the splits."""
    unlabelled = [str(top.path) for top in others if top.role]
    rest = [str(top.path) for top in others if not top.role and (top.images or top.folders)]
    notes = [f"{path} was ignored: without class folders, its images have no labels" for path in unlabelled]
    if rest:
        notes.append(f"Folders next to the splits were ignored: {_some(rest)}")
    return tuple(notes)


def _is_unlabelled(split: _Top, train: _Top) -> bool:
    """Return whether one folder contains all images of a split and is not a class: ``test/unknown``."""
    inner = next(iter(split.folders), "")
    return (
        split.role != "train"
        and len(split.folders) == 1
        and len(train.folders) > 1
        and inner not in train.folders
        and role_of(inner) != split.role
    )


def _undouble(split: Path) -> Path:
    """Return the folder of a split; some archives contain it twice, as ``train/train/CLASS``."""
    top = _Top.of(split)
    inner = next(iter(top.folders), "")
    again = len(top.folders) == 1 and not top.images and role_of(inner) == top.role
    return split / inner if again else split


def _classes(folder: Path, tops: list[_Top]) -> Layout:
    """Return the layout of class folders, unless they may be splits."""
    named = [top for top in tops if top.role]
    if named and len(named) > len([top for top in tops if not top.role and (top.images or top.folders)]):
        names = _some(top.path.name for top in named)
        raise UsageError(
            f"{folder} has the split(s) {names} with images directly in them, and no class folders",
            "Put the images into one folder per class, such as train/CLASS/*.png; a class may be called "
            "train or test only if there are other classes",
        )
    nested = [top for top in tops if top.nested]
    _check_wrapped(folder, nested)
    words = {word: top.path.name for top in nested if (word := word_in(top.path.name))}
    if len({role_of(word) for word in words}) > 1 and any(role_of(word) == "train" for word in words):
        raise UsageError(f"{folder} holds {_some(words.values())}, which look like splits", _HINT)
    if alike := _alike(nested):
        folders, inner = alike
        raise UsageError(
            f"the folders {_some(folders)} in {folder} hold folders of the same names ({_some(inner)}): they "
            "look like splits, not classes",
            f"{_HINT}; if they are classes, put them into {folder / 'train'}",
        )
    note = f"Used as classes, because they contain images directly: {_some(top.path.name for top in named)}"
    return Layout({"train": folder}, (note,) if named else ())


def _check_wrapped(folder: Path, nested: list[_Top]) -> None:
    """Refuse splits that are one level further down."""
    wrapped = [top for top in nested if len({role_of(name) for name in top.folders} - {None}) > 1]
    if len(wrapped) == 1:
        raise UsageError(
            f"{folder} itself contains no splits, but {wrapped[0].path} does ({_some(wrapped[0].folders)})",
            f"Use `data` {wrapped[0].path}",
        )
    if wrapped:
        raise UsageError(
            f"the folders {_some(top.path.name for top in wrapped)} in {folder} each hold splits "
            f"({_some(wrapped[0].folders)})",
            "Select one data set, with the splits above the classes: train/CLASS/*.png",
        )


def _alike(nested: list[_Top]) -> tuple[list[str], list[str]] | None:
    """Return folders that contain mostly the same folders, and the names of these."""
    counts = Counter(name for top in nested for name in top.folders)
    shared = {name for name, count in counts.items() if count > 1}
    # It is common for one class to contain an inner folder of the same name, such as CLASS/images.
    enough = 1 if all(_FOLD.fullmatch(top.path.name) for top in nested) else 2
    names = [
        top.path.name
        for top in nested
        if enough <= len(top.folders & shared) and 2 * len(top.folders & shared) >= len(top.folders)
    ]
    return (names, sorted(shared)) if len(names) > 1 else None


def _some(names: Iterable[str]) -> str:
    """Return the first names of a list, for a sentence."""
    chosen = sorted(names)
    return ", ".join(chosen[:4]) + (f" and {len(chosen) - 4} more" if len(chosen) > 4 else "")
