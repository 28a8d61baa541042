"""Terminal tables that leave out their least needed columns where the terminal is narrow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from imf_deploy.errors import visible

Cell = str | tuple[str, str]
"""Plain text, or text and its style; markup in the text is not interpreted."""
_NARROWEST_NAME = 12


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        heading: Heading.
        justify: Alignment; numbers are aligned to the right.
        spare: Order of removal: columns with the largest number are dropped first, those with 0 never.
    """

    heading: str
    justify: Literal["left", "right"] = "right"
    spare: int = 0


@dataclass(frozen=True)
class Section:
    """Rows under a title.

    Attributes:
        title: The line above the rows; empty for none.
        rows: A cell for each column.
        bold: Indices of the rows to emphasise.
    """

    title: str
    rows: Sequence[Sequence[Cell]]
    bold: frozenset[int] = frozenset()


@dataclass(frozen=True)
class FittingTable:
    """Sections with the same columns, one below the other; a rich renderable.

    Attributes:
        columns: Columns from left to right; the first one wraps if no other can be dropped.
        sections: Sections, whose columns are aligned.
    """

    columns: Sequence[Column]
    sections: Sequence[Section]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the tables with as many columns as fit."""
        rows = [row for section in self.sections for row in section.rows]
        widths = [
            max(map(cell_len, [column.heading, *(_plain(row[index])[0] for row in rows)]))
            for index, column in enumerate(self.columns)
        ]
        kept = list(range(len(self.columns)))
        # One character stands between two columns.
        while sum(widths[index] + 1 for index in kept) - 1 > options.max_width:
            droppable = [index for index in kept if self.columns[index].spare]
            if not droppable:
                break
            kept.remove(max(droppable, key=lambda index: self.columns[index].spare))
        others = sum(widths[index] + 1 for index in kept[1:])
        widths[0] = max(min(widths[0], options.max_width - others), _NARROWEST_NAME)
        for number, section in enumerate(self.sections):
            if section.title:
                yield Text(visible(section.title), style="bold")
            yield self._table(section, kept, widths, heading=number == 0)

    def _table(self, section: Section, kept: Sequence[int], widths: Sequence[int], heading: bool) -> Table:
        """Return one section's table with the columns that are kept, by index."""
        table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0, show_header=heading)
        for index in kept:
            column, width = self.columns[index], widths[index]
            if index == 0:
                table.add_column(Text(column.heading), justify=column.justify, overflow="fold", width=width)
            else:
                table.add_column(Text(column.heading), justify=column.justify, no_wrap=True, min_width=width)
        for number, row in enumerate(section.rows):
            weight = "bold" if number in section.bold else ""
            cells = (_plain(row[index]) for index in kept)
            table.add_row(*(Text(text, style=style or weight) for text, style in cells))
        return table


def _plain(cell: Cell) -> tuple[str, str]:
    """Return the text of a cell without terminal control characters, and its style."""
    text, style = cell if isinstance(cell, tuple) else (cell, "")
    return visible(text), style
