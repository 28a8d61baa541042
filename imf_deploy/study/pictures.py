"""Figures of a study: accuracy against multiply-accumulates, and against measured latency."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imf_deploy.files import atomic_path
from imf_deploy.method.names import PLAIN
from imf_deploy.show.palette import GREY, PRINTED, SERIES
from imf_deploy.show.scatter import cost_axis, label_points
from imf_deploy.show.svg import log_scale, style
from imf_deploy.study import selection
from imf_deploy.study.results import Network, Trained
from imf_deploy.study.selection import test_accuracies, title
from imf_deploy.study.statistics import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS = {
    "macs": "multiply-accumulates per image (millions); top left is better",
    "latency": "measured median latency of one image (ms, fp32); top left is better",
}
_COLORS = [PRINTED[color] for color in SERIES]
# Each method has its own marker, for greyscale prints; those that compare the same share a colour.
_LOOKS = {
    "imf": (_COLORS[0], "o"),
    "kd": (_COLORS[1], "s"),
    "ce": (GREY, "D"),
    "dkd": (_COLORS[2], "^"),
    "dist": (_COLORS[2], "<"),
    "mlkd": (_COLORS[2], ">"),
    "fitnet": (_COLORS[3], "v"),
    "crd": (_COLORS[3], "X"),
    "reviewkd": (_COLORS[3], "p"),
    "kd-ls": (_COLORS[4], "h"),
    "mlkd-ls": (_COLORS[4], "*"),
}
_OTHER = (_COLORS[4], "P")
_STEP = 0.012
"""Distance between methods of the same network, as a part of the axis, so that error bars do not overlap."""
_NARROW = 8
"""Below this ratio of the most to the fewest MACs, ticks at 1, 2 and 5 of a decade are too few."""
_SAMPLES = 41
"""Number of positions along every bar and line that are kept free of labels."""


class Point(NamedTuple):
    """One network by one method.

    Attributes:
        label: Text beside the point; empty for none.
        cost: Millions of multiply-accumulates, or milliseconds.
        accuracy: Mean accuracy on the test split, in percent.
        deviation: Standard deviation over the seeds, in points; 0 for one seed.
    """

    label: str
    cost: float
    accuracy: float
    deviation: float


@dataclass(frozen=True)
class Series:
    """Points that are joined by a line.

    Attributes:
        method: A key of :data:`imf_deploy.study.selection.TITLES`.
        name: Label in the legend.
        points: Points in the order of their costs.
        hollow: Whether the markers are hollow, as for the plain student by IMF beside the ``imf@k``.
    """

    method: str
    name: str
    points: list[Point]
    hollow: bool = False


def draw_pictures(
    folder: Path,
    trained: Collection[Trained],
    networks: Collection[Network],
    student: str,
    thinner: Sequence[str] = (),
) -> list[Path]:
    """Write ``accuracy-macs`` and ``accuracy-latency``, each as .svg and .png.

    With one version of matplotlib, the same input gives the same bytes.

    Args:
        folder: Folder to write to; created if needed.
        trained: Trainings of one budget. Those with a variant, or without a test, are left out.
        networks: Costs; networks without costs are not drawn, and a figure without points is not written.
        student: The full student.
        thinner: Names of thinner students.

    Returns:
        Paths of the written files.

    Raises:
        ImfDeployError: a file cannot be written.
    """
    written = []
    for cost, axis in COSTS.items():
        series = series_of(trained, networks, student, thinner, cost)
        if not series:
            continue
        with style(PRINTED):
            figure = _picture(series, cost, axis)
            for suffix in (".svg", ".png"):
                path = folder / f"accuracy-{cost}{suffix}"
                with atomic_path(path) as temporary:
                    # Without dates and versions, which would make every file different.
                    nothing = ("Date", "Creator", "Format", "Type") if suffix == ".svg" else ("Software",)
                    figure.savefig(temporary, metadata=dict.fromkeys(nothing), dpi=160)
                written.append(path)
    return written


def series_of(
    trained: Collection[Trained],
    networks: Collection[Network],
    student: str,
    thinner: Sequence[str],
    cost: str,
) -> list[Series]:
    """Return the content of a figure: the family of IMF, then the full and thinner students of every method.

    Args:
        trained: Trainings of one budget.
        networks: Costs of the architectures.
        student: The full student.
        thinner: Names of thinner students.
        cost: A key of :data:`COSTS`.
    """
    methods = selection.tested(trained, student)
    series = []
    family = []
    for name in selection.prefixes(n for run in methods.get("imf", {}).values() for n in run.test):
        family += _points(trained, networks, student, "imf", name, cost, name)
    if family:
        series.append(Series("imf", "IMF, imf@k", sorted(family, key=lambda point: point.cost)))
    architectures = [student, *thinner]
    everyone = {method for name in architectures for method in selection.tested(trained, name)}
    drawn: dict[str, dict[str, Point]] = {}
    # The legend lists IMF first and cross-entropy last.
    for method in selection.in_order(everyone)[::-1]:
        points = {name: _points(trained, networks, name, method, PLAIN, cost, "") for name in architectures}
        drawn[method] = {name: own[0] for name, own in points.items() if own}
    for name in architectures:
        # Each name appears once, at its lowest point: curves rise, so there is room on its right.
        rivals = [method for method, points in drawn.items() if name in points]
        if rivals:
            lowest = min(rivals, key=lambda method: drawn[method][name].accuracy)
            drawn[lowest][name] = drawn[lowest][name]._replace(label=name)
    for method, named in drawn.items():
        joined = sorted(named.values(), key=lambda point: point.cost)
        if joined:
            label = title(method) + (", plain" if method == "imf" else "")
            series.append(Series(method, label, joined, method == "imf"))
    return series


def _points(
    trained: Collection[Trained],
    networks: Collection[Network],
    student: str,
    method: str,
    product: str,
    cost: str,
    label: str,
) -> list[Point]:
    """Return the point of one network; an empty list if its cost or its accuracy is not known."""
    network = selection.by_product(networks, student).get(product)
    values = spread(test_accuracies(selection.tested(trained, student).get(method, {}), product).values())
    if network is None or values.mean is None:
        return []
    value = network.macs / 1e6 if cost == "macs" else network.latency_ms.get("fp32")
    return [Point(label, value, 100 * values.mean, 100 * (values.deviation or 0))] if value else []


def _picture(series: Sequence[Series], cost: str, axis: str) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(7.2, 4.8), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    costs = [point.cost for one in series for point in one.points]
    for one in series:
        axes.plot([p.cost for p in one.points], [p.accuracy for p in one.points], alpha=0)  # the limits
    if cost == "macs":
        log_scale(axes, "x")
        axes.set_xmargin(0.14)
        if max(costs) < _NARROW * min(costs):
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)))
    else:
        cost_axis(axes, costs)
    axes.autoscale_view()  # matplotlib defers it, and the next line reads the limits
    # The full student is at the right end; its name needs room.
    axes.set_xlim(right=_along(axes, 1.14))
    shifted = _side_by_side(axes, series)
    for one, points in zip(series, shifted, strict=True):
        _draw(axes, one, points)
    axes.set_xlabel(f"{axis}\nmethods of one network are drawn side by side")
    axes.set_ylabel("test accuracy (%) ± deviation over seeds")
    figure.legend(loc="outside upper left", ncols=3)
    everything = [point for points in shifted for point in points]
    figure.draw_without_rendering()  # the legend moves the axes, and with them the lines
    covered = [place for points in shifted for place in _covered(axes, points)]
    label_points(axes, [(p.label, p.cost, p.accuracy) for p in everything if p.label], covered)
    return figure


def _along(axes: Axes, part: float) -> float:
    """Return the cost at a position on the axis: 0 is its left end, 1 its right end."""
    return float((axes.transAxes - axes.transData).transform((part, 0))[0])


def _covered(axes: Axes, points: Sequence[Point]) -> list[tuple[float, float]]:
    """Return positions along the bars of a series, and along the line that joins its points."""
    ends = [((p.cost, p.accuracy - p.deviation), (p.cost, p.accuracy + p.deviation)) for p in points]
    ends += [((a.cost, a.accuracy), (b.cost, b.accuracy)) for a, b in pairwise(points)]
    back = axes.transData.inverted()
    places = []
    for start, end in ends:
        # A line is straight on the screen even if the axis is logarithmic.
        one, other = axes.transData.transform([start, end])
        parts = (part / (_SAMPLES - 1) for part in range(_SAMPLES))
        places += [tuple(back.transform(one + part * (other - one))) for part in parts]
    return places


def _side_by_side(axes: Axes, series: Sequence[Series]) -> list[list[Point]]:
    """Return the points of each series, moved apart where several have the same cost."""
    per_cost: dict[float, list[int]] = {}
    for place, one in enumerate(series):
        for point in one.points:
            per_cost.setdefault(point.cost, []).append(place)

    def moved(place: int, point: Point) -> Point:
        places = per_cost[point.cost]
        step = places.index(place) - (len(places) - 1) / 2
        at = (axes.transData + axes.transAxes.inverted()).transform((point.cost, point.accuracy))[0]
        return point._replace(cost=_along(axes, at + _STEP * step))

    return [[moved(place, point) for point in one.points] for place, one in enumerate(series)]


def _draw(axes: Axes, series: Series, points: Sequence[Point]) -> None:
    color, marker = _LOOKS.get(series.method, _OTHER)
    family = series.method == "imf" and not series.hollow
    axes.errorbar(
        [point.cost for point in points],
        [point.accuracy for point in points],
        yerr=[point.deviation for point in points],
        fmt=marker,
        color=color,
        markerfacecolor="white" if series.hollow else color,
        markersize=8 if family else 7,
        linestyle="none" if len(points) == 1 else "-" if family else "--",
        linewidth=2.2 if family else 1.2,
        elinewidth=1.0,
        capsize=2.5,
        label=series.name,
        zorder=5 if series.hollow else 4 if family else 3,
    )
