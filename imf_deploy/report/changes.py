"""Test images that a file puts into another class than PyTorch does, for a page.

It is not in verification/, which finds them: it only chooses which of the recorded ones a page shows.
"""

from collections.abc import Sequence
from typing import TypedDict

from imf_deploy.records.checks import WorstInput
from imf_deploy.records.report import ArtifactRow

SHOWN = 24
"""Most images on a page."""


class Changed(TypedDict):
    """One image, with the row of each file and its answer, most divergent first."""

    image: int
    label: str
    answers: list[tuple[ArtifactRow, WorstInput]]


def changed_images(rows: Sequence[ArtifactRow], count: int = SHOWN) -> list[Changed]:
    """Return the images whose class at least one file changes, the most divergent first, each once."""
    by_image: dict[int, Changed] = {}
    for row in rows:
        for worst in row.worst:
            if worst.answer != worst.pytorch:
                entry: Changed = {"image": worst.image, "label": worst.label, "answers": []}
                by_image.setdefault(worst.image, entry)["answers"].append((row, worst))
    for entry in by_image.values():
        entry["answers"].sort(key=lambda answer: -answer[1].divergence)
    return sorted(by_image.values(), key=lambda entry: -entry["answers"][0][1].divergence)[:count]
