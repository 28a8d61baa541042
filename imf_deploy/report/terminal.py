"""The report on a terminal: one row for each file, and the recommendation."""

from rich.console import Group
from rich.text import Text

from imf_deploy.errors import visible
from imf_deploy.records.report import ArtifactRow, Report
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
)
from imf_deploy.show.columns import Cell, Column, FittingTable, Section
from imf_deploy.show.format import (
    UNKNOWN,
    difference,
    half_interval,
    label,
    percent,
    scaled,
    significant,
)
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.tasks.metric import BALANCED_ACCURACY, ECE

_STYLES = {"pass": "green", "fail": "bold red", "not-run": "yellow"}


COLUMNS = (
    Column("file", "left"),
    Column("status", "left"),
    Column(f"{CLASSIFICATION.metric} %"),
    Column("val %", spare=1),
    Column("agrees", spare=3),
    Column("max diff", spare=4),
    Column("p50 ms"),
    Column("speedup", spare=2),
    Column("size"),
    Column("balanced %", spare=6),
    Column("ECE %", spare=5),
)


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
        rows.append([name, (label(row.status), _STYLES[row.status]), *_figures(row)])
    chosen = frozenset(number for number, row in enumerate(report.artifacts) if row is best)
    return FittingTable(COLUMNS, [Section(f"{start}…" if start else "", rows, chosen)])


def _figures(row: ArtifactRow) -> list[str]:
    latency, speedup = row.latency_ms, row.speedup
    return [
        half_interval(row.accuracy, row.accuracy_interval),
        percent(row.validation_accuracy).removesuffix(" %"),
        percent(row.agreement, 2),
        difference(row.max_abs_diff),
        significant(latency.p50) if latency else UNKNOWN,
        f"{speedup.ratio:.2f}×" if speedup else UNKNOWN,
        scaled(row.size_bytes, "B"),
        *(_percent_of(row, metric.name) for metric in (BALANCED_ACCURACY, ECE)),
    ]


def _percent_of(row: ArtifactRow, name: str) -> str:
    metric = row.metrics.get(name)
    return percent(metric.value if metric else None).removesuffix(" %")


def summary_lines(report: Report) -> list[str]:
    """Return the sentences below the table, as plain text."""
    left = f"{left_out_sentence(report)} {left_out_command(report)}".strip()
    lines = [*filter(None, [left]), teacher_sentence(report), check_sentence(report), broken_sentence(report)]
    lines += filter(None, [calibration_sentence(report), confidence_sentence(report)])
    lines += [f"{reason} ({_some(paths)})." for reason, paths in exceptions(report)]
    lines += report.notes
    return [*lines, *filter(None, [gate_sentence(report)]), deploy_sentence(report)]


def _some(paths: list[str]) -> str:
    """Return the paths, or their number if there are more than two; the table lists them all."""
    return ", ".join(paths) if len(paths) <= 2 else f"{len(paths)} files"


def render_summary(report: Report) -> Group:
    """Return the table and its sentences for a rich console."""
    table = [summary_table(report)] if report.artifacts else []
    return Group(*table, *(Text(visible(line)) for line in summary_lines(report)))
