"""The report on a terminal: one row for every file, and what to do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imf_deploy.report.format import UNKNOWN, difference, known, label, percent, scaled, significant
from imf_deploy.report.ladder import broken_sentence
from imf_deploy.report.schema import ArtifactRow, Report
from imf_deploy.report.verdict import (
    check_sentence,
    common_folder,
    deploy_sentence,
    exceptions,
    recommended,
    teacher_sentence,
)

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_STYLES = {"pass": "green", "fail": "bold red", "not-run": "yellow"}


def summary_table(report: Report) -> Table:
    """Return the table of all files; it fits 100 columns.

    The recommended file is marked with an arrow. Accuracies come with half of their 95 % interval.
    """
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    folder = common_folder(report)
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column(f"file in {escape(folder)}" if folder else "file", overflow="fold", min_width=12)
    table.add_column("status", no_wrap=True)
    for heading in ("top-1 %", "agrees", "max diff", "p50 ms", "speedup", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    best = recommended(report)
    for row in report["artifacts"]:
        weight = "bold" if row is best else ""
        name = ("→ " if row is best else "") + row["path"].removeprefix(folder)
        table.add_row(
            # Text, because names may hold what rich takes for markup.
            Text(name, style=weight),
            Text(label(row["status"]), style=_STYLES[row["status"]]),
            *(Text(cell, style=weight) for cell in _figures(row)),
        )
    return table


def _figures(row: ArtifactRow) -> list[str]:
    latency, speedup, interval = row["latency_ms"], row["speedup"], row["accuracy_interval"]
    accuracy = percent(row["accuracy"]).removesuffix(" %")
    if known(row["accuracy"]) and interval:
        accuracy += f" ±{50 * (interval[1] - interval[0]):.1f}"
    return [
        accuracy,
        percent(row["agreement"], 2),
        difference(row["max_abs_diff"]),
        significant(latency["p50"]) if latency else UNKNOWN,
        f"{speedup['ratio']:.2f}×" if speedup else UNKNOWN,
        scaled(row["size_bytes"], "B"),
    ]


def summary_lines(report: Report) -> list[str]:
    """Return the sentences that go with the table; plain text, not markup."""
    lines = [teacher_sentence(report), check_sentence(report), broken_sentence(report)]
    lines += [f"{reason} ({_some(paths)})." for reason, paths in exceptions(report)]
    lines += report["notes"]
    return [*lines, deploy_sentence(report)]


def _some(paths: list[str]) -> str:
    """Return the paths, or their number where a line could not hold them; the table has them all."""
    return ", ".join(paths) if len(paths) <= 2 else f"{len(paths)} files"


def render_summary(report: Report) -> Group:
    """Return the table and its sentences, to be printed on a rich console."""
    from rich.console import Group
    from rich.text import Text

    table = [summary_table(report)] if report["artifacts"] else []
    return Group(*table, *(Text(line) for line in summary_lines(report)))
