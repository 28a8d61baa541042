"""The report on a terminal: one row for each file, and the recommendation."""

from rich.console import Group
from rich.text import Text

from imf_deploy.errors import visible
from imf_deploy.records.report import ArtifactRow, Report
from imf_deploy.report.columns import FileColumn, columns
from imf_deploy.report.left_out import left_out_command, left_out_sentence
from imf_deploy.report.metrics import calibration_sentence, confidence_sentence
from imf_deploy.report.verdict import (
    broken_sentence,
    check_sentence,
    common_start,
    deploy_sentence,
    exceptions,
    gate_sentence,
    recommended,
    teacher_sentence,
    unchecked_sentence,
)
from imf_deploy.show.columns import Cell, Column, FittingTable, Section

_STYLES = {"pass": "green", "fail": "bold red", "not-run": "yellow"}


def summary_table(report: Report) -> FittingTable:
    """Return the table of all files; at 80 columns every row fits on one line.

    The recommended file is marked with an arrow. Accuracies on the test images are shown with half of their
    95 % interval; those on the validation images decide the recommendation.
    """
    start = common_start([row.path for row in report.artifacts])
    best = recommended(report)
    rows: list[list[Cell]] = []
    for row in report.artifacts:
        name = ("→ " if row is best else "") + row.path.removeprefix(start)
        rows.append([name, *(_cell(column, row) for column in columns("terminal"))])
    chosen = frozenset(number for number, row in enumerate(report.artifacts) if row is best)
    headings = [
        Column(column.short or column.heading, "left" if column.words else "right", column.spare)
        for column in columns("terminal")
    ]
    return FittingTable(
        [Column("file", "left"), *headings], [Section(f"{start}…" if start else "", rows, chosen)]
    )


def _cell(column: FileColumn, row: ArtifactRow) -> Cell:
    text = (column.brief or column.write)(row)
    return (text, _STYLES[row.status]) if column.is_status else text


def summary_lines(report: Report) -> list[str]:
    """Return the sentences below the table, as plain text."""
    left = f"{left_out_sentence(report)} {left_out_command(report)}".strip()
    lines = [*filter(None, [left]), teacher_sentence(report), check_sentence(report), broken_sentence(report)]
    lines += filter(None, [calibration_sentence(report), confidence_sentence(report)])
    lines += [f"{reason} ({_some(paths)})." for reason, paths in exceptions(report)]
    lines += report.notes
    last = (unchecked_sentence(report), gate_sentence(report))
    return [*lines, *filter(None, last), deploy_sentence(report)]


def _some(paths: list[str]) -> str:
    """Return the paths, or their number if there are more than two; the table lists them all."""
    return ", ".join(paths) if len(paths) <= 2 else f"{len(paths)} files"


def render_summary(report: Report) -> Group:
    """Return the table and its sentences for a rich console."""
    table = [summary_table(report)] if report.artifacts else []
    return Group(*table, *(Text(visible(line)) for line in summary_lines(report)))
