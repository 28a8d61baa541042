"""The columns of the table of files, each declared once for the terminal, Markdown and the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from imf_deploy.records.report import ArtifactRow
from imf_deploy.show import format as show
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.tasks.metric import BALANCED_ACCURACY, ECE

Place = Literal["terminal", "markdown", "page"]
Write = Callable[[ArtifactRow], str]


@dataclass(frozen=True)
class FileColumn:
    """One column besides the file's name.

    Attributes:
        heading: Heading.
        write: Writes a cell; measurements that were not made are shown as a dash.
        places: Where the column is shown.
        short: Heading on a terminal, if it differs.
        brief: Writes a cell on a terminal, if it differs.
        words: Whether cells are words instead of numbers.
        spare: Order in which a narrow terminal leaves columns out; see
            :class:`imf_deploy.show.columns.Column`.
    """

    heading: str
    write: Write
    places: tuple[Place, ...]
    short: str = ""
    brief: Write | None = None
    words: bool = False
    spare: int = 0

    @property
    def is_status(self) -> bool:
        """Whether it is the column of states, which are coloured."""
        return self is STATUS


def columns(place: Place) -> list[FileColumn]:
    """Return the columns of a place, from left to right."""
    return [column for column in _COLUMNS if place in column.places]


def _latency(percentile: str) -> Write:
    return lambda row: show.significant(getattr(row.latency_ms, percentile) if row.latency_ms else None)


def _metric(name: str) -> Write:
    return lambda row: _number(show.percent(row.metrics[name].value if name in row.metrics else None))


def _number(percentage: str) -> str:
    return percentage.removesuffix(" %")


STATUS = FileColumn(
    "Status", lambda row: show.label(row.status), ("terminal", "markdown", "page"), "status", words=True
)
_COLUMNS = (
    STATUS,
    FileColumn(
        f"{CLASSIFICATION.metric.capitalize()} (95 % interval)",
        lambda row: show.accuracy(row.accuracy, row.accuracy_interval),
        ("terminal", "markdown", "page"),
        f"{CLASSIFICATION.metric} %",
        lambda row: show.half_interval(row.accuracy, row.accuracy_interval),
    ),
    FileColumn(
        "Validation",
        lambda row: show.percent(row.validation_accuracy),
        ("terminal", "markdown", "page"),
        "val %",
        lambda row: _number(show.percent(row.validation_accuracy)),
        spare=1,
    ),
    FileColumn(
        "Same as PyTorch",
        lambda row: show.percent(row.agreement, 2),
        ("terminal", "markdown"),
        "agrees",
        spare=3,
    ),
    FileColumn("max diff", lambda row: show.difference(row.max_abs_diff), ("terminal",), spare=4),
    FileColumn("p50 ms", _latency("p50"), ("terminal", "markdown", "page")),
    FileColumn("p90 ms", _latency("p90"), ("page",)),
    FileColumn("p99 ms", _latency("p99"), ("markdown", "page")),
    FileColumn(
        "Speed-up",
        lambda row: show.speedup(row.speedup),
        ("terminal", "markdown", "page"),
        "speedup",
        lambda row: f"{row.speedup.ratio:.2f}×" if row.speedup else show.UNKNOWN,
        spare=2,
    ),
    FileColumn(
        "Size", lambda row: show.scaled(row.size_bytes, "B"), ("terminal", "markdown", "page"), "size"
    ),
    FileColumn("Memory", lambda row: show.scaled(row.memory_bytes, "B"), ("page",)),
    FileColumn("Parameters", lambda row: show.scaled(row.parameters), ("page",)),
    FileColumn("MACs", lambda row: show.scaled(row.macs), ("markdown", "page")),
    FileColumn("balanced %", _metric(BALANCED_ACCURACY.name), ("terminal",), spare=6),
    FileColumn("ECE %", _metric(ECE.name), ("terminal",), spare=5),
    FileColumn("Product", lambda row: row.product, ("page",), words=True),
    FileColumn("Format", lambda row: f"{show.label(row.format)} {row.precision}", ("page",), words=True),
)
