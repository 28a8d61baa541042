"""A comparison as one self-contained page, with accuracy against latency and against size."""

from collections.abc import Sequence
from typing import Any

from imf_deploy.comparison.runs import LATENCY, SIZE, Entry
from imf_deploy.comparison.stage import Comparison
from imf_deploy.show.format import significant
from imf_deploy.show.pages import render_template
from imf_deploy.show.palette import SERIES
from imf_deploy.show.scatter import (
    MARKERS,
    Point,
    cost_axis,
    covered,
    draw,
    label_points,
    make_point,
    ring_around,
)
from imf_deploy.show.svg import inline_svg, panel, style


def render_page(comparison: Comparison) -> str:
    """Return the comparison as a self-contained HTML page: no script, no font, no network."""
    from markupsafe import Markup

    pictures = {
        front: front_picture(comparison.entries, front, comparison.choice.entry) for front in (LATENCY, SIZE)
    }
    return render_template(
        "compare.html.j2",
        comparison=comparison,
        report=comparison.runs[0].report,
        has_memory=any(entry.row.memory_bytes for entry in comparison.entries),
        # The SVG text escapes its own labels.
        pictures={name: Markup(svg) for name, svg in pictures.items() if svg},  # noqa: S704
    )


_AXES = {
    "latency": ("median latency of one inference (ms); lower is better", "ms"),
    "size": ("size of the file (MB); lower is better", "MB"),
}


def front_picture(entries: Sequence[Entry], front: str, chosen: Entry | None) -> str | None:
    """Return test accuracy against a cost: a colour for every run, files on the front filled.

    Args:
        entries: All files; those without an accuracy or that cost are left out.
        front: ``latency`` or ``size``.
        chosen: The recommended file, which gets a ring.

    Returns:
        An ``<svg>`` element, or ``None`` if there is no point to draw.
    """
    drawn = [(entry, point) for entry in entries if (point := _point(entry, front))]
    if not drawn:
        return None
    title, unit = _AXES[front]
    points = [point for _, point in drawn]
    with style():
        figure, axes = panel(340)
        # Matplotlib's own legend leaves out names that begin with an underscore, as a folder's may.
        keys: list[Any] = []
        names = list(dict.fromkeys(point.series for point in points))
        for place, run in enumerate(names):
            # Shifted by one after each round of colours, so that ten runs have ten different marks.
            marker = MARKERS[(place + place // len(MARKERS)) % len(MARKERS)]
            own = [(p, front not in entry.fronts) for entry, p in drawn if p.series == run]
            parts = [[p for p, hollow in own if hollow == wanted] for wanted in (True, False)]
            marks = [
                draw(axes, part, marker, SERIES[place % len(SERIES)], hollow)
                for part, hollow in zip(parts, (True, False), strict=True)
                if part
            ]
            keys.append(marks[-1])  # filled, if there is one
        for entry, point in drawn:
            if entry is chosen:
                keys += ring_around(axes, point)
                names.append("recommended")
        cost_axis(axes, [point.cost for point in points])
        axes.set_xlabel(title)
        axes.set_ylabel("test accuracy (%)")
        figure.legend(keys, names, loc="outside upper left", ncols=2)
        labels = [
            (f"{entry.row.product} {entry.row.precision}", point.cost, point.accuracy)
            for entry, point in drawn
            if front in entry.fronts or entry is chosen
        ]
        label_points(axes, labels, covered(points))
        descriptions = (
            f"{entry.name} {point.accuracy:.1f} % at {significant(point.cost)} {unit}"
            for entry, point in drawn
        )
        return inline_svg(figure, f"front-{front}", f"Accuracy against {front}: {'; '.join(descriptions)}.")


def _point(entry: Entry, front: str) -> Point | None:
    row = entry.row
    cost = row.p50 if front == LATENCY else row.size_bytes / 1e6
    return make_point(entry.run.name, row.product, cost, row.accuracy, row.accuracy_interval)
