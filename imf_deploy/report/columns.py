"""A terminal table that leaves out its least needed columns where the terminal is narrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from imf_deploy.report.format import visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

_ANY_WIDTH = 100_000


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        heading: Above it.
        justify: Numbers go to the right.
        spare: Zero stays at any width; of the others the largest goes first.
    """

    heading: str
    justify: Literal["left", "right"] = "right"
    spare: int = 0


@dataclass(frozen=True)
class FittingTable:
    """Columns and rows of plain text; a rich renderable that fits itself to the console.

    Attributes:
        columns: From left to right; the first folds where nothing else can go.
        rows: A cell for each column, as text or as text and its style.
        bold: Numbers of the rows that stand out.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[str | tuple[str, str]]]
    bold: frozenset[int] = frozenset()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the widest table that fits."""
        from rich.measure import Measurement

        kept = list(range(len(self.columns)))
        while True:
            table = self.table(kept)
            wide = options.update(width=_ANY_WIDTH)
            droppable = [index for index in kept if self.columns[index].spare]
            if not droppable or Measurement.get(console, wide, table).maximum <= options.max_width:
                break
            kept.remove(max(droppable, key=lambda index: self.columns[index].spare))
        yield table

    def table(self, kept: Sequence[int]) -> Table:
        """Return a rich table of some of the columns, by number."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
        for index in kept:
            column = self.columns[index]
            table.add_column(
                Text(column.heading), justify=column.justify, no_wrap=index > 0, overflow="fold",
                min_width=12 if index == 0 else None,
            )  # fmt: skip
        for number, row in enumerate(self.rows):
            weight = "bold" if number in self.bold else ""
            cells = []
            for index in kept:
                cell = row[index]
                text, style = cell if isinstance(cell, tuple) else (cell, weight)
                # Text, because names may hold what rich takes for markup.
                cells.append(Text(visible(text), style=style))
            table.add_row(*cells)
        return table
