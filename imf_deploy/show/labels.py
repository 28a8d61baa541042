"""Labels beside the points of a chart, placed so that they cover neither points nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

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
