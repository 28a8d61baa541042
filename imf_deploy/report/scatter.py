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

_MARKERS = ("o", "s", "^", "D", "v")
_PYTORCH = "PyTorch fp32"
_LOG_FROM = 8
"""Ratio of the slowest to the fastest from which the latency axis is logarithmic."""


class _Point(NamedTuple):
    series: str
    product: str
    latency: float
    accuracy: float  # percent, as its interval
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
            axes.errorbar(
                [point.latency for point in chosen],
                [point.accuracy for point in chosen],
                yerr=[[p.accuracy - p.low for p in chosen], [p.high - p.accuracy for p in chosen]],
                fmt="o" if hollow else _MARKERS[place % len(_MARKERS)],
                color=color,
                markerfacecolor=PAPER if hollow else color,
                markersize=7,
                elinewidth=0.8,
                capsize=2.5,
                label=series,
                zorder=3,
            )
        keys, names = axes.get_legend_handles_labels()
        for ring in (point for point in points if best and point.path == best):
            keys += axes.plot(ring.latency, ring.accuracy, "o", ms=14, mfc="none", color=INK)
            names.append("recommended")
        families = [
            sorted((p for p in points if p.product == product), key=lambda p: p.latency)
            for product in dict.fromkeys(point.product for point in points)
        ]
        for family in families:
            axes.plot([p.latency for p in family], [p.accuracy for p in family], color=RULE, zorder=1)
        _latency_axis(axes, [point.latency for point in points])
        axes.set_ylabel("test accuracy (%)")
        figure.legend(keys, names, loc="outside upper left", ncols=2)
        label_points(
            axes,
            [(family[0].product, family[0].latency, family[0].accuracy) for family in families],
            [(p.latency, p.low + part / 20 * (p.high - p.low)) for p in points for part in range(21)]
            + [(p.latency, p.accuracy) for p in points],
        )
        told = (f"{p.product} {p.series} {p.accuracy:.1f} % at {significant(p.latency)} ms" for p in points)
        return inline_svg(figure, "latency", f"Accuracy against median latency: {'; '.join(told)}.")


def _points(rows: Sequence[ArtifactRow]) -> list[_Point]:
    files: list[_Point] = []
    pytorch: dict[str, _Point] = {}
    for row in rows:
        series = f"{label(row['format'])} {row['precision']}"
        point = _point(series, row, row["latency_ms"], row["accuracy"], row["accuracy_interval"])
        if point:
            files.append(point._replace(path=row["path"]))
        other = _point(
            _PYTORCH,
            row,
            row["pytorch_latency_ms"],
            row["pytorch_accuracy"],
            row["pytorch_accuracy_interval"],
        )
        if other:
            # Every file of a product is compared with the same model: one point is enough.
            pytorch.setdefault(row["product"], other)
    return files + list(pytorch.values())


def _point(
    series: str,
    row: ArtifactRow,
    latency: Latency | None,
    accuracy: float | None,
    interval: Interval | None,
) -> _Point | None:
    if latency is None or not known(latency["p50"]) or not known(accuracy):
        return None
    low, high = interval or (accuracy, accuracy)
    # An interval that does not hold its own value would be a negative error bar.
    low, high = min(low, accuracy), max(high, accuracy)
    return _Point(series, row["product"], latency["p50"], 100 * accuracy, 100 * low, 100 * high)


def _latency_axis(axes: Axes, values: Sequence[float]) -> None:
    if min(values) > 0 and max(values) / min(values) > _LOG_FROM:
        axes.set_xscale("log")
        axes.set_xmargin(0.14)
        plain_ticks(axes.xaxis)
    else:
        axes.set_xlim(0, 1.08 * max(values))
    axes.set_xlabel("median latency of one inference (ms); further left is better")
