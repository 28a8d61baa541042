"""Pictures of the training and of the strip proof, each as inline SVG, or nothing without data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from imf_deploy.records.checks import StripProof
from imf_deploy.records.making import Epoch
from imf_deploy.records.report import LOSSES
from imf_deploy.show.format import known, percent, scaled, significant
from imf_deploy.show.palette import INK, PAPER, SERIES
from imf_deploy.show.svg import inline_svg, panel, plain_ticks, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))


def loss_curves(history: Sequence[Epoch], name: str = "losses", tuned: int = 0) -> str | None:
    """Return the loss terms, each times its weight, over the epochs.

    Args:
        history: One record an epoch.
        name: Of the picture on its page.
        tuned: Epochs at the end that were quantisation-aware training.
    """
    curves = {term: _numbers(history, term) for term in LOSSES}
    curves = {term: values for term, values in curves.items() if any(map(known, values))}
    if not curves:
        return None
    with style():
        figure, axes = panel(320)
        for term, values in curves.items():
            # Colour and dashes belong to the term, so that two reports can be laid side by side.
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
            axes.set_yscale("log")
            plain_ticks(axes.yaxis)
        _epoch_axis(axes, history, tuned)
        axes.set_ylabel("loss term times its weight" if len(curves) > 1 else "loss")
        figure.legend(loc="outside upper left", ncols=2)
        told = (f"{LOSSES[term]} {_ends(values, significant)}" for term, values in curves.items())
        return inline_svg(figure, name, f"Loss terms over {len(history)} epochs: {'; '.join(told)}.")


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
    """Return bars of what every product had before and has after stripping.

    Args:
        proofs: One for every product.
        what: ``parameters`` or ``macs``.
        title: What to call it on the axis.
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
        told = (
            f"{proof.product} from {scaled(b)} to {scaled(a)}"
            for proof, b, a in zip(proofs, before, after, strict=True)
        )
        return inline_svg(figure, what, f"{title} before and after stripping: {'; '.join(told)}.")


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
    """Return one value per epoch; a gap in the curve where it is not known."""
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
