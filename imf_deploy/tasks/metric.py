"""The metrics that a file is measured by: name, unit and direction. Only the standard library is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass

POINTS, NATS = "points", "nats"
"""Units: of a fraction from 0 to 1, whose changes are in points; and of the logarithm of a probability."""

LONGEST_UNIT = 20
"""Maximum number of characters of the unit of a metric of the user's."""

_TOP = re.compile("top([1-9][0-9]{0,5})")
_OF_CLASS = re.compile("(precision|recall):(.+)", re.DOTALL)
LARGEST_TOP = 5
"""The k of the top-k accuracy that reports show, if there are more classes."""


@dataclass(frozen=True)
class Metric:
    """What a metric is called, and in which direction it is better.

    Attributes:
        name: Name in gates and records, such as ``balanced_accuracy``.
        title: Name in sentences and tables.
        unit: ``points`` for a fraction from 0 to 1, ``nats``, or the text of a metric of the user's.
        higher_is_better: Whether a gate limits how much it may fall; otherwise, how much it may rise.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool


TOP1 = Metric("top1", "accuracy", POINTS, True)
BALANCED_ACCURACY = Metric("balanced_accuracy", "balanced accuracy", POINTS, True)
MACRO_F1 = Metric("macro_f1", "macro F1", POINTS, True)
NLL = Metric("nll", "negative log-likelihood", NATS, False)
ECE = Metric("ece", "calibration error", POINTS, False)
BUILT_IN = {metric.name: metric for metric in (TOP1, BALANCED_ACCURACY, MACRO_F1, NLL, ECE)}
NAMES = f"{', '.join(BUILT_IN)}, topK, precision:CLASS, recall:CLASS"
"""What messages list."""


def top(k: int) -> Metric:
    """Return the accuracy that counts a label among the ``k`` largest logits."""
    return TOP1 if k == 1 else Metric(f"top{k}", f"top-{k} accuracy", POINTS, True)


def known_metric(name: str) -> Metric | None:
    """Return a metric by its name, which is one of :data:`NAMES`; ``None`` for another name."""
    if match := _TOP.fullmatch(name):
        return top(int(match[1]))
    if match := _OF_CLASS.fullmatch(name):
        return Metric(name, f"{match[1]} of {match[2]}", POINTS, True)
    return BUILT_IN.get(name)


def find_top(name: str) -> int | None:
    """Return ``k`` of ``topK``; ``None`` for another metric."""
    return int(match[1]) if (match := _TOP.fullmatch(name)) else None


def find_class(name: str) -> tuple[str, str] | None:
    """Return kind and class of ``precision:CLASS`` or ``recall:CLASS``; ``None`` for another metric."""
    return (match[1], match[2]) if (match := _OF_CLASS.fullmatch(name)) else None
