"""The confusion matrix of a file as inline SVG, and its change against PyTorch; ``None`` without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from imf_deploy.records.checks import ClassChange
from imf_deploy.show.palette import INK, RULE, SERIES
from imf_deploy.show.svg import WIDTH, inline_svg, panel, style
from imf_deploy.untrusted import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 100
"""Most classes of a picture; cells of more would be smaller than a pixel of a phone."""
_MOST_NAMED, _MOST_NUMBERED = 40, 12
_LONGEST_NAME = 16
_LEVELS = 8
"""Steps of opacity; all cells of one step are one path, so that the picture stays small."""
_FAINTEST = 0.15

Cells = Mapping[tuple[int, int], float]
"""Values by row (correct class) and column (chosen class)."""


def confusion_matrix(classes: Sequence[ClassChange]) -> str | None:
    """Return the matrix of a file: the darker a cell, the larger its share of the class's images."""
    counts = _cells(classes, pytorch=False)
    if counts is None:
        return None
    shares = {(row, column): (n / classes[row].images) ** 0.5 for (row, column), n in counts.items()}
    right = {place: share for place, share in shares.items() if place[0] == place[1]}
    wrong = {place: share for place, share in shares.items() if place[0] != place[1]}
    errors = sum(int(n) for place, n in counts.items() if place[0] != place[1])
    total = sum(entry.images for entry in classes)
    with style():
        figure, axes = panel(WIDTH)
        _draw(axes, classes, {SERIES[0]: right, SERIES[1]: wrong})
        _number(axes, classes, {place: f"{n:.0f}" for place, n in counts.items()})
        alt = (
            f"Confusion matrix of {len(classes)} classes: {errors} of {total} images are beside the diagonal."
        )
        return inline_svg(figure, "confusion", alt)


def confusion_change(classes: Sequence[ClassChange]) -> str | None:
    """Return the difference of a file's matrix from PyTorch's; ``None`` also if they are equal."""
    own, before = _cells(classes, pytorch=False), _cells(classes, pytorch=True)
    if own is None or before is None:
        return None
    changes = {place: own.get(place, 0) - before.get(place, 0) for place in own.keys() | before.keys()}
    changes = {place: change for place, change in sorted(changes.items()) if change}
    if not changes:
        return None
    largest = max(map(abs, changes.values()))
    more = {place: change / largest for place, change in changes.items() if change > 0}
    fewer = {place: -change / largest for place, change in changes.items() if change < 0}
    with style():
        figure, axes = panel(WIDTH)
        _draw(axes, classes, {SERIES[1]: more, SERIES[0]: fewer})
        _number(axes, classes, {place: f"{change:+.0f}" for place, change in changes.items()})
        moved = sum(change for change in changes.values() if change > 0)
        alt = f"Change of the confusion matrix against PyTorch: {moved:.0f} images are in other cells."
        return inline_svg(figure, "confusion-change", alt)


def _cells(classes: Sequence[ClassChange], *, pytorch: bool) -> dict[tuple[int, int], float] | None:
    """Return the numbers of images in the cells that are not 0; answers with NaN are in none."""
    if not 1 < len(classes) <= MOST_CLASSES or any(entry.predicted is None for entry in classes):
        return None
    place = {entry.label: index for index, entry in enumerate(classes)}
    cells: dict[tuple[int, int], float] = {}
    for row, entry in enumerate(classes):
        right, confused = (
            (entry.pytorch_right, entry.pytorch_confused) if pytorch else (entry.right, entry.confused)
        )
        found = {row: right} | {place[name]: count for name, count in confused.items() if name in place}
        # A record may be damaged: a share is at most 1.
        cells |= {(row, column): min(n, entry.images) for column, n in found.items() if n > 0 < entry.images}
    return cells


def _draw(axes: Axes, classes: Sequence[ClassChange], layers: Mapping[str, Cells]) -> None:
    """Draw cells whose values from 0 to 1 are opacities, by colour."""
    from matplotlib.patches import PathPatch, Rectangle
    from matplotlib.path import Path

    for color, cells in layers.items():
        for level in range(1, _LEVELS + 1):
            own = [place for place, value in cells.items() if max(round(value * _LEVELS), 1) == level]
            if own:
                squares = [
                    Rectangle((column - 0.5, row - 0.5), 1, 1)
                    .get_transform()
                    .transform_path(Path.unit_rectangle())
                    for row, column in own
                ]
                path = Path.make_compound_path(*squares)
                alpha = _FAINTEST + (1 - _FAINTEST) * level / _LEVELS
                axes.add_patch(PathPatch(path, facecolor=color, edgecolor="none", alpha=alpha))
    count = len(classes)
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.set_xlabel("chosen class")
    axes.set_ylabel("correct class")
    if count <= _MOST_NAMED:
        names = [shorten(entry.label, _LONGEST_NAME) for entry in classes]
        size = min(10.0, 330 / count)
        axes.set_xticks(range(count), names, rotation=90, fontsize=size)
        axes.set_yticks(range(count), names, fontsize=size)
        axes.tick_params(length=0)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, color=RULE)


def _number(axes: Axes, classes: Sequence[ClassChange], texts: Mapping[tuple[int, int], str]) -> None:
    """Write values into the cells, if there are few."""
    if len(classes) <= _MOST_NUMBERED:
        for (row, column), text in texts.items():
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=INK)
