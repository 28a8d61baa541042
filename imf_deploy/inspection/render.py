"""A finding on a terminal: one grid of names and values, readable at 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from imf_deploy.errors import visible
from imf_deploy.inspection.finding import Finding
from imf_deploy.inspection.values import SHOWN, cut, lines, shape, text
from imf_deploy.show.columns import Column, FittingTable, Section
from imf_deploy.show.format import label, percent, scaled, significant
from imf_deploy.tasks.classification import CLASSIFICATION

_TABLES = ("files", "tensors")
# Fields for machines; people read them in run.json, or do not need them.
_HIDDEN = ("settings", "tools", "ir_version", "plan_offset", "kind", "format", "file")


def render(finding: Finding) -> Group:
    """Return a finding for a rich console."""
    facts, record = finding.facts, finding.record
    hidden = [*_TABLES, *_HIDDEN]
    if record and record["matches"]:
        hidden.append("metadata")  # the record contains the same, and more
    parts: list[RenderableType] = [Text(visible(f"{finding.path}: {cut(finding.title)}"), style="bold")]
    parts += [Text(visible(f"! {warning}"), style="bold red") for warning in _warnings(finding.warnings)]
    foreign = finding.kind == "settings"  # whose names mean nothing
    parts.append(_grid(facts, () if foreign else hidden, foreign=foreign))
    for name in () if foreign else _TABLES:
        if facts.get(name):
            parts.append(_listing(name, facts[name]))
    if record is not None:
        rest = {key: value for key, value in record.items() if key not in facts}
        state = "belongs to this content" if record["matches"] else "belongs to other content"
        parts.append(Text(f"Its record {state}:", style="bold"))
        parts.append(_grid(rest, ["matches", "opset", "targets", *_HIDDEN]))
    return Group(*parts)


def _warnings(warnings: Sequence[str]) -> list[str]:
    more = len(warnings) - SHOWN
    shown = [f"{cut(warning.rstrip('. '))}." for warning in warnings[:SHOWN]]
    return [*shown, f"and {more:,} more (--json has them all)"] if more > 0 else shown


def _grid(facts: Mapping[str, Any], hidden: Sequence[str], *, foreign: bool = False) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts.items():
        if name not in hidden and value not in (None, "", [], {}):
            cell = "\n".join(map(visible, [text(name, value)] if foreign else lines(name, value)))
            grid.add_row(Text(visible(cut(name).replace("_", " "))), Text(cell))
    return grid


def _listing(name: str, items: list[dict[str, Any]]) -> RenderableType:
    """Return a table of files or tensors."""
    shown = items if name == "files" else items[:SHOWN]
    if name == "files":
        columns = [
            Column("file", "left"),
            Column("record", "left"),
            Column("verified", "left"),
            Column(CLASSIFICATION.metric),
            Column("p50 ms", spare=1),
            Column("size"),
        ]
        rows = [
            [
                item["path"],
                item["record"],
                label(text("", item["verified"])),
                percent(item["accuracy"]),
                significant(item["latency_ms"]),
                scaled(item["size_bytes"], "B"),
            ]
            for item in shown
        ]
    else:
        columns = [Column("tensor", "left"), Column("type", "left"), Column("shape", "left")]
        rows = [[cut(item["name"]), item["dtype"], shape(item["shape"])] for item in shown]
    more = len(items) - len(shown)
    table = FittingTable(columns, [Section("", rows)])
    return Group(table, Text(f"and {more} more (--json has them all)")) if more else table
