"""The pictures of a study: accuracy against multiply-accumulates, and against measured latency."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imf_deploy.files import atomic_path
from imf_deploy.method.names import PLAIN
from imf_deploy.show.scatter import cost_axis, label_points
from imf_deploy.show.svg import GREY, PRINTED, SERIES, plain_ticks, style
from imf_deploy.study import selection
from imf_deploy.study.results import Network, Trained
from imf_deploy.study.selection import test_accuracies, title
from imf_deploy.study.statistics import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS = {
    "macs": "multiply-accumulates of one picture (millions); left and up is better",
    "latency": "measured median latency of one picture (ms, fp32); left and up is better",
}
_COLORS = [PRINTED[color] for color in SERIES]
# A mark of its own for each, for those who print in grey.
_LOOKS = {
    "imf": (_COLORS[0], "o"),
    "kd": (_COLORS[1], "s"),
    "ce": (GREY, "D"),
    "dkd": (_COLORS[2], "^"),
    "fitnet": (_COLORS[3], "v"),
}
_OTHER = (_COLORS[4], "P")
_STEP = 0.012
"""Methods of the same network stand side by side, this part of the axis apart, so that bars can be told."""
_NARROW = 8
"""Below this ratio of the most to the fewest MACs, 1, 2 and 5 of a decade are too few ticks."""
_SAMPLES = 41
"""So many places along every bar and every line are kept free of labels."""


class Point(NamedTuple):
    """One network by one method.

    Attributes:
        label: What is written beside it; empty for nothing.
        cost: Millions of multiply-accumulates, or milliseconds.
        accuracy: Mean on the test split, in percent.
        deviation: Over the seeds, in points; 0 for one seed.
    """

    label: str
    cost: float
    accuracy: float
    deviation: float


@dataclass(frozen=True)
class Series:
    """Points that are joined by a line, if it has more than one.

    Attributes:
        method: A key of :data:`imf_deploy.study.selection.TITLES`.
        name: What the legend says.
        points: From the lowest cost.
        hollow: Whether its marks are empty: the plain student by IMF, beside the ``imf@k``.
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

    The same input gives the same bytes, with the same matplotlib.

    Args:
        folder: Made if it is not there.
        trained: Trainings of one budget. Those with a variant, or without a test, are left out.
        networks: Costs; what has none is not drawn, and a picture without points is not written.
        student: The whole student.
        thinner: Names of other students.

    Returns:
        Paths of the files that were written.

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
                    # Without dates and versions, which would make every file another one.
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
    """Return what a picture shows: the family of IMF, then every method's whole and thinner students.

    Args:
        trained: Trainings of one budget.
        networks: Costs of the architectures.
        student: The whole student.
        thinner: Names of other students.
        cost: A key of :data:`COSTS`.
    """
    methods = selection.tested(trained, student)
    found = []
    family = []
    for name in selection.prefixes(n for run in methods.get("imf", {}).values() for n in run.test):
        family += _points(trained, networks, student, "imf", name, cost, name)
    if family:
        found.append(Series("imf", "IMF, imf@k", sorted(family, key=lambda point: point.cost)))
    architectures = [student, *thinner]
    everyone = {method for name in architectures for method in selection.tested(trained, name)}
    drawn: dict[str, dict[str, Point]] = {}
    # IMF first and cross-entropy last: the legend has the order of accuracy that is hoped for.
    for method in selection.in_order(everyone)[::-1]:
        points = {name: _points(trained, networks, name, method, PLAIN, cost, "") for name in architectures}
        drawn[method] = {name: own[0] for name, own in points.items() if own}
    for name in architectures:
        # A name once, at the lowest of its points: curves rise, so there is room on its right.
        rivals = [method for method, points in drawn.items() if name in points]
        if rivals:
            lowest = min(rivals, key=lambda method: drawn[method][name].accuracy)
            drawn[lowest][name] = drawn[lowest][name]._replace(label=name)
    for method, named in drawn.items():
        joined = sorted(named.values(), key=lambda point: point.cost)
        if joined:
            label = title(method) + (", plain" if method == "imf" else "")
            found.append(Series(method, label, joined, method == "imf"))
    return found


def _points(
    trained: Collection[Trained],
    networks: Collection[Network],
    student: str,
    method: str,
    product: str,
    cost: str,
    label: str,
) -> list[Point]:
    """Return the point of one network, or nothing if its cost or its accuracy is not known."""
    network = selection.by_product(networks, student).get(product)
    told = spread(test_accuracies(selection.tested(trained, student).get(method, {}), product).values())
    if network is None or told.mean is None:
        return []
    value = network.macs / 1e6 if cost == "macs" else network.latency_ms.get("fp32")
    return [Point(label, value, 100 * told.mean, 100 * (told.deviation or 0))] if value else []


def _picture(series: Sequence[Series], cost: str, axis: str) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(7.2, 4.8), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    costs = [point.cost for one in series for point in one.points]
    for one in series:
        axes.plot([p.cost for p in one.points], [p.accuracy for p in one.points], alpha=0)  # the limits
    if cost == "macs":
        axes.set_xscale("log")
        axes.set_xmargin(0.14)
        plain_ticks(axes.xaxis)
        if max(costs) < _NARROW * min(costs):
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)))
    else:
        cost_axis(axes, costs)
    axes.autoscale_view()  # matplotlib puts it off, and the next line asks for the limits
    # The whole student stands at the right end; its name needs room.
    axes.set_xlim(right=_along(axes, 1.14))
    shifted = _side_by_side(axes, series)
    for one, points in zip(series, shifted, strict=True):
        _draw(axes, one, points)
    axes.set_xlabel(f"{axis}\nmethods of one network stand side by side")
    axes.set_ylabel("test accuracy (%) ± deviation over seeds")
    figure.legend(loc="outside upper left", ncols=3)
    everything = [point for points in shifted for point in points]
    figure.draw_without_rendering()  # the legend moves the axes, and with them the lines
    covered = [place for points in shifted for place in _covered(axes, points)]
    label_points(axes, [(p.label, p.cost, p.accuracy) for p in everything if p.label], covered)
    return figure


def _along(axes: Axes, part: float) -> float:
    """Return the cost at a part of the axis: 0 is its left end, 1 its right."""
    return float((axes.transAxes - axes.transData).transform((part, 0))[0])


def _covered(axes: Axes, points: Sequence[Point]) -> list[tuple[float, float]]:
    """Return places along the bars of a series, and along the line that joins it."""
    ends = [((p.cost, p.accuracy - p.deviation), (p.cost, p.accuracy + p.deviation)) for p in points]
    ends += [((a.cost, a.accuracy), (b.cost, b.accuracy)) for a, b in pairwise(points)]
    back = axes.transData.inverted()
    places = []
    for start, end in ends:
        # A line is straight on the screen, also where the axis is logarithmic.
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
