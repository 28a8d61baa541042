"""The picture to decide by: accuracy against latency for every product and precision."""

from __future__ import annotations

from collections.abc import Sequence

from imf_deploy.records.report import ArtifactRow, Percentiles
from imf_deploy.show.format import label, significant
from imf_deploy.show.labels import label_points
from imf_deploy.show.palette import INK, RULE, SERIES
from imf_deploy.show.scatter import MARKERS, Point, cost_axis, covered, draw, make_point, ring_around
from imf_deploy.show.svg import inline_svg, panel, style

_PYTORCH = "PyTorch fp32"


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


def _points(rows: Sequence[ArtifactRow]) -> list[Point]:
    files: list[Point] = []
    pytorch: dict[str, Point] = {}
    for row in rows:
        series = f"{label(row.format)} {row.precision}"
        point = make_point(series, row.product, _p50(row.latency_ms), row.accuracy, row.accuracy_interval)
        if point:
            files.append(point._replace(path=row.path))
        other = make_point(
            _PYTORCH,
            row.product,
            _p50(row.pytorch_latency_ms),
            row.pytorch_accuracy,
            row.pytorch_accuracy_interval,
        )
        if other:
            # Every file of a product is compared with the same model: one point is enough.
            pytorch.setdefault(row.product, other)
    return files + list(pytorch.values())


def _p50(latency: Percentiles | None) -> float | None:
    return latency.p50 if latency else None
