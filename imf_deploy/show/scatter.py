"""Scatter plots of accuracy against a cost: points, labels, the ring of the choice, the cost axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from imf_deploy.show.format import known
from imf_deploy.show.palette import INK, PAPER
from imf_deploy.show.svg import log_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer
    from matplotlib.lines import Line2D
    from matplotlib.text import Annotation

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
        log_scale(axes, "x")
        axes.set_xmargin(0.14)
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


_OFFSETS = (
    (-8, 0), (-8, 9), (-8, -9), (0, 9), (0, -9), (8, 9), (8, -9),
    (-8, 20), (-8, -20), (8, 20), (8, -20), (8, 0), (0, 32), (0, -32), (-8, 32), (8, 32), (-8, -32), (8, -32),
)  # fmt: skip


def label_points(
    axes: Axes, labels: Sequence[tuple[str, float, float]], points: Sequence[tuple[float, float]]
) -> None:
    """Write each label near its point, at the first free one of several positions.

    Args:
        axes: Axes whose limits are final.
        labels: Text, x and y.
        points: Points that a label should not cover, in data coordinates.
    """
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    figure = axes.figure
    if not isinstance(figure, Figure):
        raise TypeError("text can only be measured on the axes of a figure")
    # The layout moves the axes, so it has to be final before anything is measured.
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    names: list[Bbox] = []
    marks = [
        Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in (axes.transData.transform(point) for point in points)
    ]
    for text, x, y in labels:
        tries: list[tuple[int, Annotation, Bbox]] = []
        for dx, dy in _OFFSETS:
            note = axes.annotate(
                text,
                (x, y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right" if dx < 0 else "center",
                va="center" if abs(dy) == 0 else "bottom" if dy > 0 else "top",
                fontsize=10,
                in_layout=False,
            )
            box = note.get_window_extent()
            outside = not (
                frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            )
            # A label over a bar is legible, one over another label is not.
            covers = box.count_overlaps(marks) + 10 * box.padded(1).count_overlaps(names)
            tries.append((covers + 100 * outside, note, box))
        best = min(tries, key=lambda entry: entry[0])
        for entry in tries:
            if entry is not best:
                entry[1].remove()
        names.append(best[2])
