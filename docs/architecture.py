"""Draw the architecture of the method for method.md.

.venv-test/bin/python docs/architecture.py
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from imf_deploy.show.palette import GREY, PRINTED, SERIES
from imf_deploy.show.svg import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = Path(__file__).parent / "pictures" / "architecture.svg"
WIDTH, HEIGHT = 860, 560
INK = "#1a1a1a"
PLAIN, FAMILY = PRINTED[SERIES[0]], PRINTED[SERIES[1]]
COLUMNS = (215, 385, 555)
"""Centres of the columns of the three blocks."""
STUDENT, IFD, HEAD, LOGIT, TEACHER = 470, 360, 250, 140, 45
"""Centres of the rows."""


class Box(NamedTuple):
    """A box with a text.

    Attributes:
        x: Horizontal centre.
        y: Vertical centre.
        width: Width.
        text: Its lines.
        color: Colour of its edge.
        training: Whether only training has it; its edge is then dashed.
    """

    x: float
    y: float
    width: float
    text: str
    color: str
    training: bool = False

    @property
    def left(self) -> float:
        """Its left edge."""
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.x + self.width / 2


TALL = 52


def draw(axes: Axes, box: Box) -> None:
    """Draw a box."""
    shape = FancyBboxPatch(
        (box.left, box.y - TALL / 2), box.width, TALL, boxstyle="round,pad=0,rounding_size=7",
        facecolor="white", edgecolor=box.color, linewidth=1.6, linestyle=(0, (4, 3)) if box.training else "-",
        zorder=3,
    )  # fmt: skip
    axes.add_patch(shape)
    axes.text(box.x, box.y, box.text, ha="center", va="center", fontsize=12, color=INK, zorder=4)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str, loss: str = ""
) -> None:
    """Draw an arrow; a loss is dashed, and its name is beside its middle."""
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=12, shrinkA=0, shrinkB=0, color=color,
            linewidth=1.3, linestyle=(0, (4, 3)) if loss else "-", zorder=2,
        )
    )  # fmt: skip
    if loss:
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        axes.text(x + 7, y, loss, ha="left", va="center", fontsize=10.5, color=color)


def picture() -> Figure:
    """Return the picture: a student with three blocks, whose family is ``imf@1`` and ``imf@2``."""
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.axis("off")
    blocks = [Box(x, STUDENT, 110, f"block {i}", PLAIN) for i, x in enumerate(COLUMNS, 1)]
    head = Box(720, STUDENT, 120, "own head\ns", PLAIN)
    image = Box(65, STUDENT, 80, "image", INK)
    ifds = [Box(x, IFD, 110, f"IFD {i}", FAMILY if i < 3 else GREY, i == 3) for i, x in enumerate(COLUMNS, 1)]
    heads = [
        Box(x, HEAD, 110, f"pool, linear\nz{i}", FAMILY if i < 3 else GREY, i == 3)
        for i, x in enumerate(COLUMNS, 1)
    ]
    logit = Box(
        COLUMNS[1], LOGIT, 450, "attentive logit: weights per class and branch over the first k", FAMILY
    )
    teacher = Box(COLUMNS[1], TEACHER, 450, "teacher: last feature map F, logits t", GREY, True)
    for box in (image, *blocks, head, *ifds, *heads, logit, teacher):
        draw(axes, box)
    chain = [image, *blocks, head]
    for one, other in pairwise(chain):
        arrow(axes, (one.right, STUDENT), (other.left, STUDENT), PLAIN if other is not blocks[0] else INK)
    half = TALL / 2
    for block, ifd, own in zip(blocks, ifds, heads, strict=True):
        arrow(axes, (block.x, STUDENT - half), (block.x, IFD + half), ifd.color)
        arrow(axes, (ifd.x, IFD - half), (ifd.x, HEAD + half), ifd.color)
        arrow(axes, (own.x, HEAD - half), (own.x, LOGIT + half), ifd.color)
    arrow(
        axes,
        (COLUMNS[1], TEACHER + half),
        (COLUMNS[1], LOGIT - half),
        GREY,
        "β KL, for every k and for each z",
    )
    _loss(
        axes,
        [(logit.left - 50, TEACHER), (logit.left - 50, IFD)],
        ifds[0].left,
        "α distance from F\nof each IFD",
    )
    _loss(
        axes,
        [(head.x, TEACHER), (head.x, STUDENT - half)],
        None,
        "β KL from t;\ncross-entropy\nfrom the label",
    )
    _legend(axes)
    return figure


def _loss(axes: Axes, corners: list[tuple[float, float]], end: float | None, name: str) -> None:
    """Draw the path of a loss from the teacher, at right angles."""
    (x, low), (_, high) = corners
    edge = COLUMNS[1] + (225 if x > COLUMNS[1] else -225)
    axes.plot([edge, x], [low, low], color=GREY, linewidth=1.3, linestyle=(0, (4, 3)), zorder=2)
    if end is None:
        arrow(axes, (x, low), (x, high), GREY, name)
        return
    axes.plot([x, x], [low, high], color=GREY, linewidth=1.3, linestyle=(0, (4, 3)), zorder=2)
    arrow(axes, (x, high), (end, high), GREY, " ")
    axes.text(x - 8, (low + high) / 2, name, ha="right", va="center", fontsize=10.5, color=GREY)


def _legend(axes: Axes) -> None:
    rows = (
        (PLAIN, "plain: the student as its library builds it"),
        (FAMILY, "imf@k: k blocks, k IFDs, and the logit folded into one linear layer"),
        (GREY, "training only"),
    )
    for place, (color, text) in enumerate(rows):
        x = (20, 300, 745)[place]
        axes.text(x, 535, "■", fontsize=13, color=color, va="center")
        axes.text(x + 18, 535, text, fontsize=11, color=INK, va="center")


def main() -> None:
    """Write the picture."""
    with style(PRINTED):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        picture().savefig(PICTURE, metadata=nothing)


if __name__ == "__main__":
    main()
