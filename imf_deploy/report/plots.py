"""Charts of a run as inline SVG; ``None`` without data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from imf_deploy.records.checks import StripProof
from imf_deploy.records.making import Calibration, Epoch
from imf_deploy.records.report import LOSSES, ArtifactRow
from imf_deploy.show.format import known, label, percent, scaled, significant
from imf_deploy.show.palette import INK, PAPER, RULE, SERIES
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
from imf_deploy.show.svg import inline_svg, log_scale, panel, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))


def loss_curves(history: Sequence[Epoch], name: str = "losses", tuned: int = 0) -> str | None:
    """Return the loss terms, each times its weight, over the epochs.

    Args:
        history: One record for each epoch.
        name: Name of the chart on its page.
        tuned: Number of final epochs that were quantisation-aware training.
    """
    curves = {term: _numbers(history, term) for term in LOSSES}
    curves = {term: values for term, values in curves.items() if any(map(known, values))}
    if not curves:
        return None
    with style():
        figure, axes = panel(320)
        for term, values in curves.items():
            # Each term always has the same colour and dashes, so that reports can be compared.
            place = list(LOSSES).index(term)
            for part, label in zip(_parts(history, values, tuned), (LOSSES[term], None), strict=False):
                axes.plot(
                    *part,
                    color=SERIES[place],
                    linestyle=_DASHES[place],
                    linewidth=1.8,
                    marker="o" if len(part[0]) == 1 else "",
                    markersize=4,
                    label=label,
                )
        if all(value > 0 for values in curves.values() for value in values if known(value)):
            log_scale(axes, "y")
        _epoch_axis(axes, history, tuned)
        axes.set_ylabel("loss term times its weight" if len(curves) > 1 else "loss")
        figure.legend(loc="outside upper left", ncols=2)
        parts = (f"{LOSSES[term]} {_ends(values, significant)}" for term, values in curves.items())
        return inline_svg(figure, name, f"Loss terms over {len(history)} epochs: {'; '.join(parts)}.")


def validation_curve(history: Sequence[Epoch], name: str = "validation", tuned: int = 0) -> str | None:
    """Return the accuracy on the validation images over the epochs; see :func:`loss_curves`."""
    values = _numbers(history, "validation_accuracy")
    if not any(map(known, values)):
        return None
    with style():
        figure, axes = panel(320)
        for part in _parts(history, [100 * value for value in values], tuned):
            axes.plot(*part, color=SERIES[0], marker="o", markersize=4, linewidth=1.8)
        _epoch_axis(axes, history, tuned)
        axes.set_ylabel("validation accuracy (%)")
        alt = f"Validation accuracy over {len(history)} epochs: {_ends(values, percent)}."
        return inline_svg(figure, name, alt)


def strip_bars(proofs: Sequence[StripProof], what: str, title: str) -> str | None:
    """Return bars of the cost of every product before and after stripping.

    Args:
        proofs: One for every product.
        what: ``parameters`` or ``macs``.
        title: Label of the axis.
    """
    if not proofs:
        return None
    before = [getattr(proof, f"{what}_before") for proof in proofs]
    after = [getattr(proof, f"{what}_after") for proof in proofs]
    with style():
        figure, axes = panel(90 + 44 * len(proofs))
        rows = list(range(len(proofs)))
        axes.barh([r - 0.2 for r in rows], before, 0.36, color=PAPER, edgecolor=INK, lw=0.8, label="before")
        axes.barh([r + 0.2 for r in rows], after, 0.36, color=SERIES[0], label="after")
        for place, counts in ((-0.2, before), (0.2, after)):
            for row, count in zip(rows, counts, strict=True):
                axes.annotate(
                    scaled(count), (count, row + place), (4, 0), textcoords="offset points", va="center"
                )
        axes.set_yticks(rows, [proof.product for proof in proofs])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.2 * max(*before, *after, 1))
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_formatter(lambda value, _: scaled(value))
        axes.set_xlabel(title)
        figure.legend(loc="outside upper left", ncols=2)
        parts = (
            f"{proof.product} from {scaled(b)} to {scaled(a)}"
            for proof, b, a in zip(proofs, before, after, strict=True)
        )
        return inline_svg(figure, what, f"{title} before and after stripping: {'; '.join(parts)}.")


def _epochs(history: Sequence[Epoch]) -> list[float]:
    return [epoch["epoch"] for epoch in history]


def _parts(
    history: Sequence[Epoch], values: Sequence[float], tuned: int
) -> list[tuple[list[float], Sequence[float]]]:
    """Return epochs and values of the distillation, and of quantisation-aware training after it."""
    epochs, border = _epochs(history), len(history) - tuned
    parts = [(epochs[:border], values[:border]), (epochs[border:], values[border:])]
    return [part for part in parts if part[0]]


def _numbers(history: Sequence[Epoch], name: str) -> list[float]:
    """Return one value per epoch; NaN, which leaves a gap in the curve, if it is not known."""
    values = (epoch.get(name) for epoch in history)
    return [value if known(value) else math.nan for value in values]


def _ends(values: Sequence[float], show: Callable[[float | None], str]) -> str:
    numbers = [value for value in values if known(value)]
    return f"from {show(numbers[0])} to {show(numbers[-1])}"


def _epoch_axis(axes: Axes, history: Sequence[Epoch], tuned: int) -> None:
    from matplotlib.ticker import MaxNLocator

    if tuned:
        epochs = _epochs(history)
        border = (epochs[-tuned - 1] + epochs[-tuned]) / 2
        axes.axvline(border, color=INK, linewidth=0.8, linestyle=":")
        place = axes.get_xaxis_transform()
        axes.annotate("QAT", (border, 1), (4, -2), place, textcoords="offset points", va="top", fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")


_PYTORCH = "PyTorch fp32"


def accuracy_against_latency(rows: Sequence[ArtifactRow], best: str | None = None) -> str | None:
    """Return accuracy against median latency: a point for every measured file, hollow for PyTorch.

    Args:
        rows: All files; those without a measured latency are left out.
        best: Path of the recommended file, which gets a ring.

    Returns:
        An ``<svg>`` element, or ``None`` if no file was measured.
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
        axes.set_xlabel("median latency of one inference (ms); lower is better")
        axes.set_ylabel("test accuracy (%)")
        figure.legend(keys, names, loc="outside upper left", ncols=2)
        label_points(
            axes,
            [(family[0].product, family[0].cost, family[0].accuracy) for family in families],
            covered(points),
        )
        parts = (f"{p.product} {p.series} {p.accuracy:.1f} % at {significant(p.cost)} ms" for p in points)
        return inline_svg(figure, "latency", f"Accuracy against median latency: {'; '.join(parts)}.")


def _points(rows: Sequence[ArtifactRow]) -> list[Point]:
    files: list[Point] = []
    pytorch: dict[str, Point] = {}
    for row in rows:
        series = f"{label(row.format)} {row.precision}"
        point = make_point(series, row.product, row.p50, row.accuracy, row.accuracy_interval)
        if point:
            files.append(point._replace(path=row.path))
        other = make_point(
            _PYTORCH,
            row.product,
            row.pytorch_latency_ms.p50 if row.pytorch_latency_ms else None,
            row.pytorch_accuracy,
            row.pytorch_accuracy_interval,
        )
        if other:
            # Every file of a product is compared with the same model: one point is enough.
            pytorch.setdefault(row.product, other)
    return files + list(pytorch.values())


SHOWN = 12
"""Most layers in a chart; the record of the file has all of them."""


def sensitivity_bars(calibration: Calibration, name: str) -> str | None:
    """Return bars of the divergence that each layer causes when it alone is quantised, worst first.

    Layers that were put back into float have another colour. The axis is logarithmic, because a few layers
    cause a hundred times the divergence of the others.

    Args:
        calibration: Calibration of one INT8 file.
        name: Prefix of the chart's ids, unique on the page.
    """
    harms = calibration.sensitivity[:SHOWN]
    values = [harm.divergence for harm in harms]
    largest = max((value for value in values if known(value)), default=0.0)
    if not harms or largest <= 0:
        return None
    # A layer whose divergence is not finite gets a bar longer than all others.
    lengths = [value if known(value) else 10 * largest for value in values]
    floor = max(min((length for length in lengths if length > 0), default=largest) / 3, largest * 1e-6)
    floats = set(calibration.float_layers)
    with style():
        figure, axes = panel(96 + 22 * len(harms))
        for kept, colour, words in ((False, SERIES[0], "INT8"), (True, SERIES[1], "back in float")):
            rows = [row for row, harm in enumerate(harms) if (harm.layer in floats) == kept]
            if rows:
                widths = [max(lengths[row], floor) for row in rows]
                axes.barh(rows, widths, 0.7, color=colour, hatch="//" if kept else "", label=words)
        log_scale(axes, "x")
        axes.set_xlim(floor, 3 * max(lengths))
        axes.set_yticks(range(len(harms)), [harm.layer for harm in harms])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("KL divergence from float, this layer alone quantised")
        figure.legend(loc="outside upper left", ncols=2)
        parts = (f"{harm.layer} {significant(harm.divergence)}" for harm in harms)
        return inline_svg(figure, name, f"Divergence that each layer causes alone: {'; '.join(parts)}.")
