"""Answers as text: lines for a terminal, and rows of CSV."""

from __future__ import annotations

from imf_deploy.errors import visible
from imf_deploy.serving.predict import Prediction
from imf_deploy.show.format import percent


def line(answer: Prediction) -> str:
    """Return an answer as one line: ``cat.jpg: tabby 93.2 %, tiger cat 4.1 %``."""
    pairs = zip(answer.classes, answer.probabilities, strict=True)
    return visible(f"{answer.image}: {', '.join(f'{name} {percent(part)}' for name, part in pairs)}")


def csv_head(top: int) -> list[str]:
    """Return the names of the columns of :func:`csv_row`."""
    others = [name for place in range(2, top + 1) for name in (f"class_{place}", f"probability_{place}")]
    return ["image", "class", "probability", *others]


def csv_row(answer: Prediction) -> list[str]:
    """Return an answer as the cells of a row; probabilities have six digits after the point."""
    pairs = zip(answer.classes, answer.probabilities, strict=True)
    return [str(answer.image), *(cell for name, part in pairs for cell in (name, f"{part:.6f}"))]
