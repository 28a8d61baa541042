"""Scatter plots of accuracy against a cost: points with intervals, the ring of the choice, the cost axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from imf_deploy.show.format import known
from imf_deploy.show.palette import INK, PAPER
from imf_deploy.show.svg import plain_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer
    from matplotlib.lines import Line2D

MARKERS = ("o", "s", "^", "D", "v")
_LOG_FROM = 8
"""Ratio of the slowest to the fastest from which the latency axis is logarithmic."""


class Point(NamedTuple):
    """One file in a chart; accuracy and both ends of its interval in percent."""

    series: str
    product: str
    cost: float
    accuracy: float
    low: float
    high: float
    path: str = ""


def draw(
    axes: Axes, points: Sequence[Point], marker: str, color: str, hollow: bool, label: str = "_"
) -> ErrorbarContainer:
    """Draw points with the intervals of their accuracies; a label of ``_`` is left out of the legend."""
    return axes.errorbar(
        [point.cost for point in points],
        [point.accuracy for point in points],
        yerr=[[p.accuracy - p.low for p in points], [p.high - p.accuracy for p in points]],
        fmt=marker,
        color=color,
        markerfacecolor=PAPER if hollow else color,
        markersize=7,
        elinewidth=0.8,
        capsize=2.5,
        label=label,
        zorder=3,
    )


def ring_around(axes: Axes, point: Point) -> list[Line2D]:
    """Draw the ring of the recommended file."""
    return axes.plot(point.cost, point.accuracy, "o", ms=14, mfc="none", color=INK)


def covered(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Return positions that labels should not cover: all points and their error bars."""
    bars = [(p.cost, p.low + part / 20 * (p.high - p.low)) for p in points for part in range(21)]
    return bars + [(p.cost, p.accuracy) for p in points]


def cost_axis(axes: Axes, values: Sequence[float]) -> None:
    """Make the axis of latencies or sizes logarithmic if they differ much; otherwise start it at zero."""
    if min(values) > 0 and max(values) / min(values) > _LOG_FROM:
        axes.set_xscale("log")
        axes.set_xmargin(0.14)
        plain_ticks(axes.xaxis)
    else:
        axes.set_xlim(0, 1.08 * max(values))


def make_point(
    series: str, product: str, cost: float | None, accuracy: float | None, interval: Sequence[float] | None
) -> Point | None:
    """Return the point of a file; ``None`` if its cost or its accuracy (0 to 1) is not known."""
    if not known(cost) or not known(accuracy):
        return None
    low, high = interval or (accuracy, accuracy)
    # An interval that does not contain its value would give a negative error bar.
    low, high = min(low, accuracy), max(high, accuracy)
    return Point(series, product, cost, 100 * accuracy, 100 * low, 100 * high)
