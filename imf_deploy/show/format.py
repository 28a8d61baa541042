"""Formatted numbers: units, significant digits, and a dash for unknown values."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from imf_deploy.records.checks import Verification
from imf_deploy.records.metrics import MetricValue
from imf_deploy.records.report import Speedup
from imf_deploy.tasks.metric import NATS, POINTS

UNKNOWN = "–"
NAMES = {"onnx": "ONNX", "tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX", "not-run": "not run"}
"""Names of formats and states; anything else is shown as it is."""
PYTORCH = "PyTorch (channels-last, eager)"
"""The baseline of latencies: how ``PyTorchRunner`` runs a product by default."""


def known(value: float | None) -> TypeGuard[float]:
    """Return whether a value is a finite number."""
    return value is not None and math.isfinite(value)


def significant(value: float | None, digits: int = 3) -> str:
    """Return a number with the given number of significant digits, never in scientific notation."""
    if not known(value):
        return UNKNOWN
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(digits - 1 - magnitude, 0)}f}"


def percent(fraction: float | None, digits: int = 1) -> str:
    """Return a fraction as a percentage; only exactly 1 is shown as 100 %."""
    if not known(fraction):
        return UNKNOWN
    if fraction == 1.0:
        return "100 %"
    below = 100 - 10**-digits
    return f"{min(100 * fraction, below) if fraction < 1 else 100 * fraction:.{digits}f} %"


def accuracy(fraction: float | None, interval: Sequence[float] | None) -> str:
    """Return an accuracy with its 95 % interval, in percent."""
    if not known(fraction) or interval is None:
        return percent(fraction)
    low, high = interval
    return f"{percent(fraction)} ({100 * low:.1f}–{100 * high:.1f})"


def half_interval(fraction: float | None, interval: Sequence[float] | None) -> str:
    """Return an accuracy with half of its 95 % interval, in percent without the sign: ``90.3 ±1.3``."""
    text = percent(fraction).removesuffix(" %")
    return f"{text} ±{50 * (interval[1] - interval[0]):.1f}" if known(fraction) and interval else text


def duration(seconds: float) -> str:
    """Return a time with at most two units: ``40 s``, ``4 min``, ``2 h 30 min``."""
    if seconds < 10:
        return f"{max(round(seconds), 1)} s"
    if seconds < 90:
        return f"{round(seconds / 5) * 5} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    hours, minutes = divmod(round(seconds / 600) * 10, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def points(row: Verification) -> str:
    """Return the points of accuracy that a file loses against PyTorch; negative for a gain."""
    if row.accuracy is None or row.pytorch_accuracy is None:
        return UNKNOWN
    return f"{100 * (row.pytorch_accuracy - row.accuracy):.2f}"


def metric_value(metric: MetricValue | None, *, reference: bool = False, intervals: bool = True) -> str:
    """Return a metric with its unit.

    Args:
        metric: The metric; ``None`` if it was not measured.
        reference: Whether to show that of the network instead of the file's.
        intervals: Whether to add the 95 % interval, if there is one.
    """
    if metric is None:
        return UNKNOWN
    value = metric.reference if reference else metric.value
    interval = metric.reference_interval if reference else metric.interval
    interval = interval if intervals else None
    if metric.unit == POINTS:
        return accuracy(value, interval)
    if not known(value):
        return UNKNOWN
    if metric.unit == NATS:
        return f"{value:.3f} ({interval[0]:.3f}–{interval[1]:.3f})" if interval else f"{value:.3f}"
    return f"{value:.4g} {metric.unit}".rstrip()


def metric_amount(metric: MetricValue, amount: float) -> str:
    """Return an amount of a gate with its unit."""
    unit = f"point{'' if amount == 1 else 's'}" if metric.unit == POINTS else metric.unit
    return f"{amount:g} {unit}".rstrip()


def metric_loss(metric: MetricValue) -> str:
    """Return by how much a file is worse than its network, without the unit; a gain counts as 0."""
    loss = metric.loss
    if not known(loss):
        return UNKNOWN
    return f"{max(loss, 0):.2f}" if metric.unit == POINTS else f"{max(loss, 0):.3g}"


def capitalised(words: str) -> str:
    """Return words with a capital letter at the beginning."""
    return words[:1].upper() + words[1:]


def speedup(value: Speedup | None) -> str:
    """Return a speed-up with its 95 % interval."""
    if value is None:
        return UNKNOWN
    return f"{value.ratio:.2f}× ({value.low:.2f}–{value.high:.2f})"


def scaled(value: float | None, unit: str = "") -> str:
    """Return a count with a decimal prefix: ``2.24 M``, ``8.91 MB``."""
    if not known(value):
        return UNKNOWN
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{significant(value / size)} {prefix}{unit}"
    return f"{value:.0f} {unit}".rstrip()


def difference(value: float | None) -> str:
    """Return a difference between logits; ``0`` only if they are identical bit for bit."""
    if not known(value):
        return UNKNOWN
    return f"{value:.1e}" if value else "0"


def label(name: str) -> str:
    """Return the display name of a format or a state."""
    return NAMES.get(name, name)


def plain(value: Any) -> str:
    """Return any JSON value as one readable line."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value)
    return str(value)
