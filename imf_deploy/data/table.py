"""Tables of images and labels: CSV, JSON lines or Parquet, from any source."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from imf_deploy.data.classes import class_name
from imf_deploy.data.walk import exists
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.untrusted import parse_object, printable, shorten

IMAGE_COLUMNS = (
    *("path", "file", "file_name", "filename", "file_path", "filepath"),
    *("image", "image_path", "image_file", "image_name", "picture", "photo"),
)
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "label_name", "target", "category")
SPLIT_COLUMNS = ("split", "subset", "partition", "set")
"""Names of columns; capitals, spaces and punctuation are ignored."""
LARGEST_TABLE = 128 << 20
"""Maximum size of a table in bytes; a million rows of a hundred characters fit."""
MOST_ROWS = 5_000_000
"""Maximum number of rows; ImageNet has 1.3 million."""
ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet")
_SEPARATORS = (",", ";", "\t")
_EXAMPLE = "Begin the table with a line such as path,label"

Values = Iterator[tuple[int, Sequence[Any]]]
"""Number of each row in its file, and its values."""


class Row(NamedTuple):
    """A row of a table: the path of an image and its label as written, and the name of its split if known."""

    number: int
    image: str
    label: str
    split: str | None


@dataclass(frozen=True)
class Table:
    """A table that was read.

    Attributes:
        path: The file.
        unit: What its rows are called, ``line`` or ``row``.
        rows: The rows; there is at least one.
    """

    path: Path
    unit: str
    rows: list[Row]

    def place(self, row: Row) -> str:
        """Return where a row is, for messages."""
        return f"{self.unit} {row.number} of {self.path}"


@dataclass(frozen=True)
class _Source:
    """An opened table.

    Attributes:
        unit: What its rows are called.
        names: Names of the columns.
        rows: Columns by position -> the rows with their values in these columns.
    """

    unit: str
    names: list[str]
    rows: Callable[[Sequence[int]], Values]


def read_table(path: Path) -> Table:
    """Read a table.

    Raises:
        UsageError: it does not exist, is of another type, or its columns cannot be told apart.
        ImfDeployError: it cannot be read, or a row has no image or no label; the message names the row.
    """
    source = _opened(path)
    image, label, split = _columns(source.names, path)
    wanted = [image, label] if split is None else [image, label, split]
    rows: list[Row] = []
    labels: dict[str, str] = {}
    for number, values in source.rows(wanted):
        texts = [value.strip() if isinstance(value, str) else _text(value) for value in values]
        if not all(texts):
            empty = texts.index("")
            where = f"{source.unit} {number} of {path}"
            raise _unusable(where, source.names[wanted[empty]], values[empty])
        name = labels.get(texts[1])
        if name is None:
            name = labels[texts[1]] = class_name(texts[1], f"{source.unit} {number} of {path}")
        rows.append(Row(number, texts[0], name, None if split is None else texts[2]))
        if len(rows) > MOST_ROWS:
            raise ImfDeployError(f"{path} has more than {MOST_ROWS:,} rows", "Use fewer images")
    if not rows:
        raise ImfDeployError(f"{path} has no rows", "Write one row for every image")
    return Table(path, source.unit, rows)


def column_names(path: Path) -> list[str]:
    """Return the names of a table's columns; see :func:`read_table`."""
    return _opened(path).names


def one_of(names: Iterable[str], known: Sequence[str]) -> list[int]:
    """Return the positions of the columns whose names are among the known ones."""
    plain = {_plain(name) for name in known}
    return [index for index, name in enumerate(names) if _plain(name) in plain]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _columns(names: list[str], path: Path) -> tuple[int, int, int | None]:
    """Return the positions of the columns of images, labels and, if there is one, splits.

    Raises:
        UsageError: there is no such column, or more than one.
    """
    found = []
    for what, known in (("images", IMAGE_COLUMNS), ("labels", LABEL_COLUMNS), ("splits", SPLIT_COLUMNS)):
        matches = one_of(names, known)
        if len(matches) > 1:
            both = " and ".join(f"'{shorten(names[index], 40)}'" for index in matches[:4])
            raise UsageError(
                f"{path} has {len(matches)} columns that could hold the {what}: {both}",
                "Rename or remove all but one",
            )
        if not matches and known is not SPLIT_COLUMNS:
            shown = ", ".join(f"'{shorten(name, 40)}'" for name in names[:12])
            raise UsageError(
                f"{path} has no column of {what}; it has {shown}" + (" …" if len(names) > 12 else ""),
                f"Name the column {known[0]} in the first line (also known: {', '.join(known[1:])})",
            )
        found.append(matches[0] if matches else None)
    image, label, split = found
    assert image is not None and label is not None  # noqa: S101  refused above
    return image, label, split


def _opened(path: Path) -> _Source:
    """Open a table by the ending of its name."""
    if not exists(path, Path.is_file):
        what = "is not a file" if exists(path) else "does not exist"
        raise UsageError(f"the table {path} {what}", "Give `labels` a CSV, JSON lines or Parquet file")
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(f"the table {path} has an unknown ending", f"Save it as one of {', '.join(ENDINGS)}")
    size = path.stat().st_size
    if size > LARGEST_TABLE:
        raise ImfDeployError(
            f"the table {path} is larger than {LARGEST_TABLE >> 20} MiB",
            "Keep the columns of paths and labels only",
        )
    try:
        if ending == ".parquet":
            return _parquet(path)
        content = _content(path)
    except OSError as error:
        raise ImfDeployError(
            f"cannot read the table {path} ({error.strerror or error})", "Check its permissions"
        ) from error
    return _json_lines(path, content) if ending in (".jsonl", ".ndjson") else _csv(path, content)


def _content(path: Path) -> bytes:
    """Return the content of a text file, which is UTF-8."""
    with path.open("rb") as file:
        content = file.read(LARGEST_TABLE + 1)
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ImfDeployError(f"line {line} of {path} is not UTF-8", "Save the table as UTF-8") from error
    return content


def _csv(path: Path, content: bytes) -> _Source:
    """Open a CSV whose values are separated by commas, semicolons or tabs."""

    def records(separator: str) -> Values:
        text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
        reader = csv.reader(text, delimiter=separator, strict=True)
        while True:
            start = reader.line_num + 1
            try:
                values = next(reader, None)
            except csv.Error as error:
                raise ImfDeployError(
                    f"line {start} of {path} is not valid CSV ({error})", "Check its quotation marks"
                ) from error
            if values is None:
                return
            if any(value.strip() for value in values):
                yield start, values

    headers = {separator: next(records(separator), (0, []))[1] for separator in _SEPARATORS}
    separator = max(_SEPARATORS, key=lambda each: _fitting(headers[each]))
    names = [str(name).strip() for name in headers[separator]]
    if not names:
        raise ImfDeployError(f"{path} is empty", _EXAMPLE)

    def rows(columns: Sequence[int]) -> Values:
        lines = records(separator)
        next(lines)
        for number, values in lines:
            if len(values) != len(names):
                raise ImfDeployError(
                    f"line {number} of {path} has {len(values)} value(s), but there are {len(names)} columns",
                    "Put values that hold the separator into quotation marks",
                )
            yield number, [values[index] for index in columns]

    return _Source("line", names, rows)


def _fitting(names: Sequence[str]) -> int:
    """Return how many of the two columns are there, if these are the names of the columns."""
    return bool(one_of(names, IMAGE_COLUMNS)) + bool(one_of(names, LABEL_COLUMNS))


def _json_lines(path: Path, content: bytes) -> _Source:
    """Open a file with a JSON object on every line."""

    def records() -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(io.BytesIO(content.removeprefix(codecs.BOM_UTF8)), 1):
            if line.strip():
                yield number, parse_object(line, f"line {number} of {path}", "Write one object on every line")

    names = list(next(records(), (0, {}))[1])
    if not names:
        raise ImfDeployError(f"{path} is empty", 'Write lines such as {"path": "a.png", "label": "cat"}')

    def rows(columns: Sequence[int]) -> Values:
        for number, values in records():
            yield number, [values.get(names[index]) for index in columns]

    return _Source("line", names, rows)


def _parquet(path: Path) -> _Source:
    """Open a Parquet file, of which only the columns that are used are read."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UsageError(
            f"{path} cannot be read without pyarrow",
            "Type: pip install 'imf-deploy[parquet]', or save the table as CSV",
        ) from error
    try:
        file = parquet.ParquetFile(path)
        if file.metadata.num_rows > MOST_ROWS:
            raise ImfDeployError(f"{path} has more than {MOST_ROWS:,} rows", "Use fewer images")
        names = list(file.schema_arrow.names)
    except (ArrowException, ValueError) as error:
        raise ImfDeployError(
            f"{path} is not a complete Parquet file ({shorten(str(error))})", "Save it again"
        ) from error

    def rows(columns: Sequence[int]) -> Values:
        number = taken = 0
        try:
            for batch in file.iter_batches(4096, columns=[names[index] for index in columns]):
                taken += batch.nbytes
                if taken > LARGEST_TABLE:
                    raise ImfDeployError(
                        f"the paths and labels of {path} take more than {LARGEST_TABLE >> 20} MiB",
                        "Check that its columns hold paths and labels",
                    )
                # The columns are in the order of the file.
                values = [batch.column(names[index]).to_pylist() for index in columns]
                for each in zip(*values, strict=True):
                    number += 1
                    yield number, each
        except (ArrowException, ValueError, OSError) as error:
            raise ImfDeployError(
                f"{path} is damaged after row {number} ({shorten(str(error))})", "Save it again"
            ) from error

    return _Source("row", names, rows)


def _text(value: Any) -> str:
    """Return an integer as text; empty for anything else."""
    return str(value) if isinstance(value, int) and abs(value) < 1 << 63 else ""


def _unusable(where: str, column: str, value: Any) -> ImfDeployError:
    """Return the error for a value that is missing, or is neither text nor an integer."""
    if value is None or isinstance(value, str):
        return ImfDeployError(
            f"{where} has no value in the column '{shorten(column, 40)}'",
            "Write a value or remove the row; `unlabelled` takes images without labels",
        )
    return ImfDeployError(
        f"{where} holds {shorten(printable(repr(value)), 40)}, which is neither text nor an integer",
        "Write paths as text, and classes as text or integers",
    )
