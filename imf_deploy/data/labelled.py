"""Images whose labels are in tables: ``labels`` for any folder, or ``metadata.csv`` next to the images."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from imf_deploy.data.classes import CLASS_NAMES, number_classes
from imf_deploy.data.dataset import DataSet
from imf_deploy.data.encoded import Part, open_parts
from imf_deploy.data.pictures import FilePictures
from imf_deploy.data.roles import ROLES, Role, role_of
from imf_deploy.data.table import (
    ENDINGS,
    LABEL_COLUMNS,
    Row,
    Table,
    column_names,
    one_of,
    read_table,
)
from imf_deploy.data.walk import entries, exists, is_folder, is_image_name, real
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.settings import DataSettings

METADATA = tuple(f"metadata{ending}" for ending in ENDINGS if ending in (".csv", ".jsonl", ".parquet"))
"""Names of the tables of Hugging Face's image folders."""
_FILE_COLUMN = ("file_name",)


@dataclass(frozen=True)
class _Listed:
    """A table, the folder that its paths are relative to, and the split of all its images if it has one."""

    table: Table
    base: Path
    role: Role | None


@dataclass(frozen=True)
class _Image:
    """An image of a table."""

    path: Path
    label: str
    role: Role
    place: str


def open_labels(folder: Path, file: Path, config: DataSettings) -> DataSet:
    """Open the images that a table lists; missing splits are left empty.

    Paths are relative to the folder, or to the folder of the table if the first image is there. Splits are
    named by a column, or else by the first folder of every path if that is ``train`` or another name of a
    split; without either, all images are for training. Integer labels are named by a ``classes.txt`` next to
    the table, one class per line.

    Args:
        folder: Folder of the images.
        file: The table; see :func:`imf_deploy.data.table.read_table`.
        config: See :func:`imf_deploy.data.folder.open_folder`.

    Raises:
        UsageError: the table does not exist, or its columns cannot be told apart.
        ImfDeployError: a row cannot be used: the message names the table and the row.
    """
    table = read_table(file)
    first = table.rows[0].image
    beside = not exists(folder / first) and exists(file.parent / first)
    base = file.parent if beside else folder
    return _open([_Listed(table, base, None)], base, file.parent / CLASS_NAMES, config)


def open_metadata(folder: Path, config: DataSettings) -> DataSet | None:
    """Open a folder with ``metadata.csv`` (``.jsonl``, ``.parquet``) next to the images, as on Hugging Face.

    The table is in the folder itself, or in the folder of every split. It has the columns ``file_name``,
    relative to the table, and one of labels; other tables are ignored.

    Returns:
        ``None`` if there is no such table.

    Raises:
        UsageError: two tables are in one folder, or there is none of the training split.
        ImfDeployError: see :func:`open_labels`.
    """
    if file := _metadata_in(folder):
        data = _open([_Listed(read_table(file), folder, None)], folder, folder / CLASS_NAMES, config)
        return replace(data, notes=(f"Labels are read from {file}", *data.notes))
    found: dict[Role, Path] = {}
    ignored = []
    for entry in entries(folder):
        role = role_of(entry.name) if is_folder(entry) else None
        if role is None:
            continue
        if file := _metadata_in(Path(entry.path)):
            if role in found:
                raise UsageError(
                    f"{found[role]} and {file} are tables of the same split ({role})",
                    "Rename or move away all but one folder; the usual names are train, val and test",
                )
            found[role] = file
        else:
            ignored.append(f"{entry.path} was ignored: no table there gives its images labels")
    if not found:
        return None
    if "train" not in found:
        raise UsageError(
            f"{folder} has {next(iter(found.values()))} but no such table of the training split",
            "Add train/metadata.csv with the columns file_name and label",
        )
    tables = [_Listed(read_table(found[role]), found[role].parent, role) for role in ROLES if role in found]
    data = _open(tables, folder, folder / CLASS_NAMES, config)
    read = ", ".join(str(file) for file in found.values())
    return replace(data, notes=(f"Labels are read from {read}", *ignored, *data.notes))


def _metadata_in(folder: Path) -> Path | None:
    """Return the table of a folder, if it has one with names of files and labels."""
    usable = []
    for file in (folder / name for name in METADATA if exists(folder / name, Path.is_file)):
        try:
            names = column_names(file)
        except ImfDeployError:
            # Among class folders it may be anything, and like other files there it is ignored.
            if any(is_folder(entry) for entry in entries(folder)):
                continue
            raise
        if one_of(names, _FILE_COLUMN) and one_of(names, LABEL_COLUMNS):
            usable.append(file)
    if len(usable) > 1:
        raise UsageError(
            f"{' and '.join(map(str, usable))} are both tables of labels", "Remove or rename all but one"
        )
    return usable[0] if usable else None


def _open(tables: Sequence[_Listed], folder: Path, classes: Path, config: DataSettings) -> DataSet:
    """Open the images of some tables."""
    images, repeated = _images(tables)
    parts: dict[Role, Part] = {}
    names = " and ".join(str(listed.table.path) for listed in tables)
    by_role = {role: [image for image in images if image.role == role] for role in ROLES}
    if not by_role["train"]:
        raise ImfDeployError(f"{names} lists no training image", "Name the split of some rows train")
    labels, numbers = number_classes(
        (image.label for image in by_role["train"]),
        (image.label for image in images),
        classes,
        names,
        names,
    )
    for role, its in by_role.items():
        if its:
            pictures = FilePictures(folder, tuple(image.path for image in its))
            parts[role] = Part(pictures, [numbers[image.label] for image in its], pictures.marks)
    data = open_parts(real(folder).name, parts, labels, config, f"the validation split of {names}")
    notes = (*_repeated(repeated, names), *_unlisted(images, names), *_outside(images, folder))
    return replace(data, notes=(*notes, *data.notes))


def _images(tables: Sequence[_Listed]) -> tuple[list[_Image], int]:
    """Return every image of some tables once, and the number of rows that repeat another.

    Raises:
        ImfDeployError: an image does not exist, lies outside its folder, or is listed with two labels or in
            two splits.
    """
    seen: dict[Path, _Image] = {}
    missing: list[tuple[str, Path]] = []
    rows = 0
    for listed in tables:
        for row, path, role in _placed(listed):
            rows += 1
            image = _Image(path, unicodedata.normalize("NFC", row.label), role, listed.table.place(row))
            if not exists(path, Path.is_file):
                missing.append((image.place, path))
            known = seen.setdefault(path, image)
            if known.label != image.label:
                raise ImfDeployError(
                    f"{known.place} gives {path} the label '{known.label}', but {image.place} "
                    f"gives it '{image.label}'",
                    "Correct one of them: every image has one label",
                )
            if known.role != image.role:
                raise ImfDeployError(
                    f"{known.place} puts {path} into the {known.role} split, but {image.place} "
                    f"into the {image.role} split",
                    "Remove one of them: an image belongs to one split",
                )
    if missing:
        place, path = missing[0]
        what = "is not a regular file" if exists(path) else "does not exist"
        more = f" ({len(missing)} of {rows} images are missing)" if len(missing) > 1 else ""
        hint = "Write paths relative to `data`, or to the table's folder, with the ending of the file name"
        raise ImfDeployError(f"{place} names {path}, which {what}{more}", hint)
    return list(seen.values()), rows - len(seen)


def _placed(listed: _Listed) -> Iterator[tuple[Row, Path, Role]]:
    """Yield every row of a table with the path of its image and its split."""
    table, base = listed.table, listed.base
    places = [(row, _inside(row, table, base)) for row in table.rows]
    tops = {place.split("/", 1)[0] for _, place in places if "/" in place}
    by_folder = any(role_of(top) == "train" for top in tops) and table.rows[0].split is None
    for row, place in places:
        role: Role | None = listed.role
        if role is None and row.split is not None:
            role = role_of(row.split)
            if role is None:
                raise ImfDeployError(
                    f"{table.place(row)} puts its image into the split '{row.split}'",
                    "Use train, val and test",
                )
        elif role is None and by_folder:
            role = role_of(place.split("/", 1)[0]) if "/" in place else None
            if role is None:
                raise ImfDeployError(
                    f"{table.place(row)} names {row.image}, but other rows name images in folders of splits",
                    "Add a column 'split' with train, val or test to the table",
                )
        yield row, base / place, role or "train"


def _inside(row: Row, table: Table, base: Path) -> str:
    """Return the path of an image relative to its folder.

    Raises:
        ImfDeployError: it lies outside the folder.
    """
    text = row.image
    if "\0" in text:
        raise ImfDeployError(f"{table.place(row)} names a path with a NUL character", "Correct the path")
    place = os.path.normpath(text)
    if Path(place).is_absolute():
        # The table may name the folder through a link.
        own = next((root for root in (base.absolute(), real(base)) if Path(place).is_relative_to(root)), base)
        place = os.path.relpath(place, own)
    if place in (".", "..") or place.startswith(f"..{os.sep}"):
        raise ImfDeployError(
            f"{table.place(row)} names {text}, which is not in {base}",
            "Write paths relative to `data`, and use `data` with a folder that holds all images",
        )
    return Path(place).as_posix()


def _repeated(count: int, names: str) -> tuple[str, ...]:
    return (f"{count} row(s) of {names} repeat another row; each image is used once",) if count else ()


def _unlisted(images: Sequence[_Image], names: str) -> tuple[str, ...]:
    """Return a note on images next to those of a table that it does not list."""
    known = {image.path for image in images}
    others = [
        Path(entry.path)
        for folder in sorted({path.parent for path in known})
        for entry in entries(folder)
        if is_image_name(entry.name) and folder / entry.name not in known
    ]
    if not others:
        return ()
    first = ", ".join(map(str, others[:3])) + (" …" if len(others) > 3 else "")
    return (f"{len(others)} image(s) are not used, because {names} does not list them: {first}",)


def _outside(images: Sequence[_Image], folder: Path) -> tuple[str, ...]:
    """Return a note on images that are links to files elsewhere."""
    root = real(folder)

    @cache
    def elsewhere(place: Path) -> bool:
        return not real(place).is_relative_to(root)

    count = sum(
        not real(image.path).is_relative_to(root) if image.path.is_symlink() else elsewhere(image.path.parent)
        for image in images
    )
    return (f"{count} image(s) are links to files outside {root}; they are used",) if count else ()
