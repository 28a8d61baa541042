"""The metrics of a report: a table of files and networks, and sentences on the gate and on confidences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from imf_deploy.records.checks import ClassChange
from imf_deploy.records.making import Confidence
from imf_deploy.records.metrics import MetricValue
from imf_deploy.records.report import ArtifactRow, Report
from imf_deploy.settings import Gate
from imf_deploy.show.format import (
    UNKNOWN,
    capitalised,
    metric_amount,
    metric_loss,
    metric_value,
    percent,
    significant,
)
from imf_deploy.tasks.metric import ECE, TOP1

NOTABLE = 1.0
"""Points by which a calibration error has to change to be worth a sentence."""
NAMED = 2
"""Most files that a sentence names; the table has them all."""
CONFUSIONS = 10
"""Most cells of a confusion matrix in a table."""


@dataclass(frozen=True)
class MetricRow:
    """One row of the table.

    Attributes:
        path: The file; empty for a network in PyTorch.
        name: Product of the file, or what the network is called.
        cells: A text for each column.
    """

    path: str
    name: str
    cells: list[str]


def metric_titles(report: Report) -> dict[str, str]:
    """Return the names and titles of the metrics besides the accuracy, which has a column elsewhere."""
    return {
        name: capitalised(metric.title)
        for row in report.artifacts
        for name, metric in row.metrics.items()
        if name != TOP1.name
    }


def metric_rows(report: Report) -> list[MetricRow]:
    """Return the metrics of each product in PyTorch and of its files, with what they use of their gates."""
    names = list(metric_titles(report))
    rows: list[MetricRow] = []
    seen: set[str] = set()
    for row in report.artifacts:
        if not row.metrics:
            continue
        if row.product not in seen:
            seen.add(row.product)
            cells = [metric_value(row.metrics.get(name), reference=True) for name in names]
            rows.append(MetricRow("", f"{row.product} in PyTorch", cells))
            if row.uncalibrated:
                earlier = [_uncalibrated(row, name) for name in names]
                rows.append(MetricRow("", f"{row.product} before calibration", earlier))
        limits = dict(row.gate.gate)
        own = [
            metric_value(row.metrics.get(name)) + _used(row.metrics.get(name), limits.get(name))
            for name in names
        ]
        rows.append(MetricRow(row.path, row.product, own))
    return rows


def _uncalibrated(row: ArtifactRow, name: str) -> str:
    """Return a metric of the network before its confidences were calibrated."""
    metric = row.metrics.get(name)
    if metric is None or name not in row.uncalibrated:
        return UNKNOWN
    return metric_value(replace(metric, value=row.uncalibrated[name], interval=None))


def _used(metric: MetricValue | None, allowed: float | None) -> str:
    if metric is None or allowed is None or metric.loss is None:
        return ""
    return f" (worse by {metric_loss(metric)} of {allowed:g})"


def gate_words(gate: Gate, metrics: Mapping[str, MetricValue]) -> str:
    """Return what a gate allows, in words.

    Args:
        gate: The gate.
        metrics: Metrics of a file that it judged.
    """
    parts = [
        f"accuracy falls by at most {_points(gate.max_accuracy_drop)}",
        f"at least {percent(gate.min_agreement)} of the images keep their class",
    ]
    for name, allowed in gate.gate:
        if metric := metrics.get(name):
            verb = "falls" if metric.higher_is_better else "rises"
            parts.append(f"{metric.title} {verb} by at most {metric_amount(metric, allowed)}")
    return ", ".join(parts)


def _points(amount: float) -> str:
    return f"{amount:g} point{'' if amount == 1 else 's'}"


def confidence_sentence(report: Report) -> str:
    """Return one sentence on files whose calibration error differs notably from PyTorch's, or nothing."""
    changed = [
        (abs(loss), f"{row.path} ({percent(metric.reference)} to {percent(metric.value)})")
        for row in report.artifacts
        if (metric := row.metrics.get(ECE.name))
        and (loss := metric.loss) is not None
        and abs(loss) >= NOTABLE
    ]
    if not changed:
        return ""
    most = [text for _, text in sorted(changed, key=lambda entry: -entry[0])]
    more = f", and {len(most) - NAMED} more" if len(most) > NAMED else ""
    return (
        f"The calibration error differs from PyTorch's by a point or more: {', '.join(most[:NAMED])}{more}."
    )


def confidence_words(made: Confidence) -> str:
    """Return how the confidences of a product were calibrated, in words."""
    return (
        f"temperature {made.temperature:g}, negative log-likelihood {significant(made.nll_before)} to "
        f"{significant(made.nll_after)} and calibration error {percent(made.ece_before)} to "
        f"{percent(made.ece_after)} on {made.images} validation images"
    )


def calibration_sentence(report: Report) -> str:
    """Return one sentence on calibrated confidences, with their effect on the test images, or nothing."""
    parts = []
    for product, made in report.confidences.items():
        rows = (row for row in report.artifacts if row.product == product and row.uncalibrated)
        row = next(rows, None)
        metric = row.metrics.get(ECE.name) if row else None
        before = row.uncalibrated.get(ECE.name) if row else None
        tested = (
            f", and {percent(before)} to {percent(metric.reference)} on the test images" if metric else ""
        )
        parts.append(f"{product}: {confidence_words(made)}{tested}")
    return f"Confidences were calibrated. {'; '.join(parts)}." if parts else ""


@dataclass(frozen=True)
class Confusion:
    """Images of one class for which another one is chosen.

    Attributes:
        label: Correct class.
        chosen: Class that the file chooses; empty for logits with NaN.
        images: Number of images.
        pytorch: Number of images that PyTorch puts into ``chosen``.
    """

    label: str
    chosen: str
    images: int
    pytorch: int


def confusions(classes: Sequence[ClassChange], count: int = CONFUSIONS) -> list[Confusion]:
    """Return the most frequent confusions of a file."""
    cells = [
        Confusion(row.label, chosen, images, row.pytorch_confused.get(chosen, 0))
        for row in classes
        for chosen, images in row.confused.items()
    ]
    return sorted(cells, key=lambda cell: -cell.images)[:count]


def shown_row(report: Report, best: ArtifactRow | None) -> ArtifactRow | None:
    """Return the file whose confusion matrix is shown: the recommended one, or the first that has one."""
    with_cells = [
        row for row in report.artifacts if any(entry.predicted is not None for entry in row.classes)
    ]
    return best if best in with_cells else next(iter(with_cells), None)
