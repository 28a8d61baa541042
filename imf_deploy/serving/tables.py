"""An evaluation, and a comparison of two files, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from imf_deploy.errors import visible
from imf_deploy.serving.compare import ClassFlips, FileComparison
from imf_deploy.serving.evaluate import Evaluation
from imf_deploy.serving.latency import SideBySide
from imf_deploy.show.format import UNKNOWN, capitalised, metric_value, percent, significant

CLASSES = 30
"""Maximum number of classes that are listed; the JSON has all."""
CONFUSED = 5
FLIPS = 10


def render_evaluation(result: Evaluation) -> Group:
    """Return the metrics of a file, its classes, and what it confuses."""
    parts: list[RenderableType] = [_line(f"{result.file} on {result.images} images of {result.data}")]
    rows = [(capitalised(metric.title), metric_value(metric)) for metric in result.metrics.values()]
    parts.append(_table(("metric", "value"), rows))
    worst = sorted(result.classes, key=lambda row: row.recall)[:CLASSES]
    shown = result.classes if len(result.classes) <= CLASSES else worst
    classes = [
        (row.label, str(row.images), str(row.right), *map(percent, (row.recall, row.precision, row.f1)))
        for row in shown
    ]
    parts.append(_table(("class", "images", "right", "recall", "precision", "F1"), classes))
    if len(shown) < len(result.classes):
        parts.append(_line(f"The {len(shown)} of {len(result.classes)} classes with the lowest recall."))
    if result.without_images:
        parts.append(_line(f"{result.without_images} of the file's classes have no images."))
    if result.confused:
        most = (f"{row.label} → {row.chosen} {row.images}" for row in result.confused[:CONFUSED])
        parts.append(_line(f"Most often confused (label → answer, images): {'; '.join(most)}"))
    return Group(*parts)


def render_comparison(result: FileComparison) -> Group:
    """Return both files side by side, the classes that change, and whether the gate holds."""
    own, current = result.candidate, result.current
    parts: list[RenderableType] = [
        _line(f"{own.file} (candidate) and {current.file} (current) on {own.images} images of {own.data}")
    ]
    rows: list[tuple[str, ...]] = [
        (
            capitalised(metric.title),
            metric_value(metric),
            metric_value(current.metrics[name]) if name in current.metrics else UNKNOWN,
        )
        for name, metric in own.metrics.items()
    ]
    if seen := result.latency:
        rows.append(("Latency", *(f"{significant(ms)} ms" for ms in (seen.candidate_ms, seen.current_ms))))
    parts.append(_table(("metric", "candidate", "current"), rows))
    low, high = (100 * end for end in result.interval)
    parts += [
        _line(
            f"Accuracy changes by {100 * result.difference:+.2f} points ({low:+.2f} to {high:+.2f}): "
            f"{result.gained} images gained, {result.lost} lost; McNemar's p = {_p(result.p_value)}"
        ),
        _line(f"Same class on {percent(result.agreement, 2)} of the images"),
    ]
    if result.latency:
        parts.append(_line(_latency(result.latency)))
    changed = sorted((row for row in result.classes if row.changed), key=lambda row: row.gained - row.lost)
    if changed:
        classes = [(row.label, *_counts(row)) for row in changed[:CLASSES]]
        headings = ("class", "images", "current right", "candidate right", "gained", "lost", "changed")
        parts.append(_table(headings, classes))
    parts += [
        _line(f"{flip.image}, {flip.label}: {flip.current} → {flip.candidate}")
        for flip in result.flips[:FLIPS]
    ]
    if len(result.flips) > FLIPS:
        parts.append(_line(f"{len(result.flips) - FLIPS} more images change their class."))
    parts.append(_line(f"fail: {result.reason}" if result.reason else "pass"))
    return Group(*parts)


def _latency(seen: SideBySide) -> str:
    remark = f". {seen.remark}" if seen.remark else ""
    batch = "one image" if seen.images == 1 else f"{seen.images} images"
    return (
        f"Latency for {batch} with {seen.threads} thread(s): {seen.ratio:.2f} ({seen.low:.2f} to "
        f"{seen.high:.2f}) times the current file's{remark}"
    )


def _counts(row: ClassFlips) -> list[str]:
    counts = (row.images, row.current_right, row.candidate_right, row.gained, row.lost, row.changed)
    return [*map(str, counts)]


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else "less than 0.0001"


def _line(text: str) -> Text:
    return Text(visible(text))


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1))
    table.add_column(headings[0], overflow="fold")
    for heading in headings[1:]:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table
