"""Parts of records: metrics of a file and of the network that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from imf_deploy.forms import Number
from imf_deploy.limits import LONGEST
from imf_deploy.settings.gate import EPSILON, Gate
from imf_deploy.tasks.metric import POINTS

Interval = tuple[Number, Number]
"""Lower and upper end of a 95 % interval."""


@dataclass(frozen=True, kw_only=True)
class MetricValue:
    """A metric of a file, on the same images as that of the network that it was made from.

    Attributes:
        title: Name in sentences.
        unit: ``points`` for a fraction from 0 to 1, ``nats``, or the text of a metric of the user's.
        higher_is_better: Whether a gate limits how much it may fall; otherwise, how much it may rise.
        value: That of the file; null if it is not defined or not finite.
        reference: That of the network.
        interval: 95 % confidence interval of ``value``; null for metrics without an honest one.
        reference_interval: That of ``reference``.
    """

    title: Annotated[str, Field(max_length=LONGEST + 20)]
    unit: Annotated[str, Field(max_length=LONGEST)]
    higher_is_better: bool
    value: Number | None
    reference: Number | None
    interval: Interval | None = None
    reference_interval: Interval | None = None

    @property
    def loss(self) -> float | None:
        """By how much the file is worse, in points or in the metric's unit; negative if it is better."""
        if self.value is None or self.reference is None:
            return None
        change = self.reference - self.value if self.higher_is_better else self.value - self.reference
        return change * (100 if self.unit == POINTS else 1)


def missed(
    gate: Gate, accuracy: float, reference: float, agreement: float, metrics: Mapping[str, MetricValue]
) -> str:
    """Return why a file misses its gate, and by how much; empty if it passes.

    Args:
        gate: The gate.
        accuracy: Accuracy of the file, from 0 to 1.
        reference: Accuracy of the float model.
        agreement: Part of the images on which both choose the same class.
        metrics: At least the metrics that the gate names.
    """
    reasons = (_exceeds(metrics[name], allowed) for name, allowed in gate.gate)
    return gate.reason(accuracy, reference, agreement) or next(filter(None, reasons), "")


def _exceeds(metric: MetricValue, allowed: float) -> str:
    if metric.reference is None:
        return f"{metric.title} of the float model is not defined or not finite"
    if metric.value is None or (loss := metric.loss) is None:
        return f"{metric.title} is not defined or not finite"
    if loss <= allowed + EPSILON:
        return ""
    verb = "falls" if metric.higher_is_better else "rises"
    if metric.unit == POINTS:
        change = f"{loss:.2f} points from {metric.reference:.2%}"
    else:
        change = f"{loss:.4g} {metric.unit}".rstrip() + f" from {metric.reference:.4g}"
    return f"{metric.title} {verb} by {change}, and {allowed:g} are allowed"
