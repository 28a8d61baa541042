"""The picture to decide by: accuracy against latency for every product and precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from imf_deploy.report.format import known, label, significant
from imf_deploy.report.labels import label_points
from imf_deploy.report.schema import ArtifactRow, Interval, Latency
from imf_deploy.report.svg import INK, PAPER, RULE, SERIES, inline_svg, panel, plain_ticks, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer
    from matplotlib.lines import Line2D

MARKERS = ("o", "s", "^", "D", "v")
_PYTORCH = "PyTorch fp32"
_LOG_FROM = 8
"""Ratio of the slowest to the fastest from which the latency axis is logarithmic."""


class Point(NamedTuple):
    """One file in a picture; accuracy and both ends of its interval in percent."""

    series: str
    product: str
    cost: float
    accuracy: float
    low: float
    high: float
    path: str = ""


def accuracy_against_latency(rows: Sequence[ArtifactRow], best: str | None = None) -> str | None:
    """Return accuracy against median latency: a point for every measured file, PyTorch's hollow.

    Args:
        rows: All files; those without a measured latency are left out.
        best: Path of the recommended file, which gets a ring.

    Returns:
        An ``<svg>`` element, or nothing if no file was measured.
    """
    points = _points(rows)
    if not points:
        return None
    with style():
        figure, axes = panel(340)
        for place, series in enumerate(dict.fromkeys(point.series for point in points)):
            hollow = series == _PYTORCH
            color = INK if hollow else SERIES[place % len(SERIES)]
            chosen = [point for point in points if point.series == series]
            draw(axes, chosen, "o" if hollow else MARKERS[place % len(MARKERS)], color, hollow, series)
        keys, names = axes.get_legend_handles_labels()
        for ring in (point for point in points if best and point.path == best):
            keys += ring_around(axes, ring)
            names.append("recommended")
        families = [
            sorted((p for p in points if p.product == product), key=lambda p: p.cost)
            for product in dict.fromkeys(point.product for point in points)
        ]
        for family in families:
            axes.plot([p.cost for p in family], [p.accuracy for p in family], color=RULE, zorder=1)
        cost_axis(axes, [point.cost for point in points])
        axes.set_xlabel("median latency of one inference (ms); further left is better")
        axes.set_ylabel("test accuracy (%)")
        figure.legend(keys, names, loc="outside upper left", ncols=2)
        label_points(
            axes,
            [(family[0].product, family[0].cost, family[0].accuracy) for family in families],
            covered(points),
        )
        told = (f"{p.product} {p.series} {p.accuracy:.1f} % at {significant(p.cost)} ms" for p in points)
        return inline_svg(figure, "latency", f"Accuracy against median latency: {'; '.join(told)}.")


def draw(
    axes: Axes, points: Sequence[Point], marker: str, color: str, hollow: bool, label: str = "_"
) -> ErrorbarContainer:
    """Draw points with the intervals of their accuracies; the label ``_`` is in no legend."""
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
    """Return what labels should not cover: every point, and its error bar from end to end."""
    bars = [(p.cost, p.low + part / 20 * (p.high - p.low)) for p in points for part in range(21)]
    return bars + [(p.cost, p.accuracy) for p in points]


def cost_axis(axes: Axes, values: Sequence[float]) -> None:
    """Make the axis of latencies or sizes logarithmic where they differ much, else begin at zero."""
    if min(values) > 0 and max(values) / min(values) > _LOG_FROM:
        axes.set_xscale("log")
        axes.set_xmargin(0.14)
        plain_ticks(axes.xaxis)
    else:
        axes.set_xlim(0, 1.08 * max(values))


def _points(rows: Sequence[ArtifactRow]) -> list[Point]:
    files: list[Point] = []
    pytorch: dict[str, Point] = {}
    for row in rows:
        series = f"{label(row['format'])} {row['precision']}"
        point = make_point(series, row, _p50(row["latency_ms"]), row["accuracy"], row["accuracy_interval"])
        if point:
            files.append(point._replace(path=row["path"]))
        other = make_point(
            _PYTORCH,
            row,
            _p50(row["pytorch_latency_ms"]),
            row["pytorch_accuracy"],
            row["pytorch_accuracy_interval"],
        )
        if other:
            # Every file of a product is compared with the same model: one point is enough.
            pytorch.setdefault(row["product"], other)
    return files + list(pytorch.values())


def _p50(latency: Latency | None) -> float | None:
    return latency["p50"] if latency else None


def make_point(
    series: str, row: ArtifactRow, cost: float | None, accuracy: float | None, interval: Interval | None
) -> Point | None:
    """Return a point of a file; nothing if its cost or its accuracy (0 to 1) is not known."""
    if not known(cost) or not known(accuracy):
        return None
    low, high = interval or (accuracy, accuracy)
    # An interval that does not hold its own value would be a negative error bar.
    low, high = min(low, accuracy), max(high, accuracy)
    return Point(series, row["product"], cost, 100 * accuracy, 100 * low, 100 * high)
