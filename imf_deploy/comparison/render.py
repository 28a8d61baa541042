"""A comparison on a terminal: one table for every run, readable at 80 columns."""

from rich.console import Group, RenderableType
from rich.text import Text

from imf_deploy.comparison.runs import Entry
from imf_deploy.comparison.stage import Comparison
from imf_deploy.errors import visible
from imf_deploy.show.columns import Column, FittingTable, Section
from imf_deploy.show.format import half_interval, label, percent, scaled, significant
from imf_deploy.tasks.classification import CLASSIFICATION

COLUMNS = (
    Column("file", "left"),
    Column("val %"),
    Column(f"test {CLASSIFICATION.metric} %"),
    Column("p50 ms"),
    Column("p99 ms", spare=3),
    Column("size"),
    Column("memory", spare=2),
    Column("MACs", spare=1),
    Column("front", "left"),
)
_MEMORY = [column.heading for column in COLUMNS].index("memory")


def render(comparison: Comparison) -> Group:
    """Return the tables, warnings, and the sentence what to deploy, for a rich console."""
    has_memory = any(entry.row.memory_bytes for entry in comparison.entries)
    kept = [place for place in range(len(COLUMNS)) if has_memory or place != _MEMORY]
    sections = []
    for run, start, own in comparison.by_run():
        rows = [_cells(entry, start, entry is comparison.choice.entry) for entry in own]
        chosen = frozenset(n for n, entry in enumerate(own) if entry is comparison.choice.entry)
        sections.append(
            Section(f"{run.name}/{start}…", [[row[place] for place in kept] for row in rows], chosen)
        )
    parts: list[RenderableType] = [FittingTable([COLUMNS[place] for place in kept], sections)]
    lines = [
        f"Data {comparison.runs[0].report.dataset}; accuracies with half of their 95 % Wilson interval.",
        "front: no other file is as fast (latency) or as small (size) and as accurate on the validation "
        "images, which are also used for the choice.",
    ]
    parts += [Text(visible(line), style="dim") for line in lines]
    parts += [Text(visible(f"! {warning}"), style="yellow") for warning in comparison.warnings]
    if not comparison.missed:  # otherwise the error reports it
        parts.append(Text(visible(comparison.choice.sentence), style="bold"))
    return Group(*parts)


def _cells(entry: Entry, start: str, chosen: bool) -> list[str]:
    row = entry.row
    latency = row.latency_ms
    return [
        ("→ " if chosen else "  ") + row.path.removeprefix(start),
        percent(row.validation_accuracy).removesuffix(" %"),
        half_interval(row.accuracy, row.accuracy_interval),
        significant(latency.p50) if latency else significant(None),
        significant(latency.p99) if latency else significant(None),
        scaled(row.size_bytes, "B"),
        scaled(row.memory_bytes, "B"),
        scaled(row.macs),
        ", ".join(sorted(entry.fronts)) if row.status == "pass" else label(row.status),
    ]
