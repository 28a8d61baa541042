"""What ``verify`` found out about one file, on a terminal.

It is not in verification/, because it shares the words of a report and runs nothing.
"""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from imf_deploy.errors import visible
from imf_deploy.records.checks import BatchCheck, Portability, Verification
from imf_deploy.report.verdict import rung_line
from imf_deploy.show.format import accuracy, difference, metric_amount, metric_loss, metric_value, percent

WORST = 3
"""Most images that are listed; the record of the file has more."""


def render_verification(name: str, result: Verification) -> Group:
    """Return sentences and a table of classes for a rich console, within 80 columns.

    Args:
        name: Name of the file.
        result: Its measurements; the file was run.
    """
    gate = result.gate
    head = [
        f"{name}: {result.status}" + (f", {result.reason}" if result.reason else ""),
        f"Accuracy {accuracy(result.accuracy, result.accuracy_interval)} of {result.images} test "
        f"images, PyTorch {accuracy(result.pytorch_accuracy, result.pytorch_accuracy_interval)}; "
        f"gate: {gate.max_accuracy_drop:g} points",
        f"Same class as PyTorch on {percent(result.agreement, 2)}; gate: {percent(gate.min_agreement)}",
        f"Logits: largest difference {difference(result.max_abs_diff)}, mean "
        f"{difference(result.mean_abs_diff)}, cosine {result.cosine:.6f}",
        *_processor_lines(result.portability),
        *batch_lines(result.batches),
        "Parity ladder:",
        *(rung_line(rung) for rung in result.ladder),
    ]
    parts: list[RenderableType] = [*map(Text, head)]
    if result.metrics:
        parts.append(_metrics(result))
    worst = [entry for entry in result.worst if entry.answer != entry.pytorch][:WORST]
    tail = [
        f"Test image {entry.image}, {entry.label}: {entry.answer} "
        f"{percent(entry.probability, 0)}, PyTorch {entry.pytorch} "
        f"{percent(entry.pytorch_probability, 0)}"
        for entry in worst
    ]
    if not any(row.changed for row in result.classes):
        tail.append("No image changes its class.")
        return Group(*parts, *map(Text, tail))
    return Group(*parts, _classes(result), *map(Text, tail))


def batch_lines(check: BatchCheck | None) -> list[str]:
    """Return a sentence on images that were run alone; an empty list for a file with a fixed batch."""
    if check is None:
        return []
    small = "Alone" if check.small == 1 else f"In a batch of {check.small}"
    return [
        f"{small} and in a batch of {check.batch}: same class for {percent(check.agreement, 2)} of "
        f"{check.images} images, largest difference {difference(check.max_abs_diff)} "
        f"(allowed {difference(check.tolerance)})"
    ]


def _processor_lines(portability: Portability | None) -> list[str]:
    if not portability:
        return []
    made = " The file was made for processors with VNNI." if portability.cpus == "vnni" else ""
    return [f"{portability.sentence}.{made}"]


def _metrics(result: Verification) -> Table:
    limits = dict(result.gate.gate)
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1))
    table.add_column("metric", overflow="fold")
    for heading in ("file", "PyTorch", "worse by", "gate"):
        table.add_column(heading, justify="right")
    for name, metric in result.metrics.items():
        values = (
            metric_value(metric, intervals=False),
            metric_value(metric, reference=True, intervals=False),
            metric_loss(metric),
            metric_amount(metric, limits[name]) if name in limits else "",
        )
        table.add_row(Text(visible(metric.title)), *map(Text, values))
    return table


def _classes(result: Verification) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1))
    table.add_column("class", overflow="fold", min_width=12)
    for heading in ("images", "PyTorch right", "file right", "moved", "recall", "precision"):
        table.add_column(heading, justify="right")
    for row in result.classes:
        numbers = (row.images, row.pytorch_right, row.right, row.changed)
        shares = (percent(row.recall), percent(row.precision))
        table.add_row(Text(row.label), *map(str, numbers), *shares)
    return table
