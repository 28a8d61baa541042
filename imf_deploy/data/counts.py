"""Numbers of images of each class and split, and what few of them mean for a result."""

from __future__ import annotations

from collections.abc import Sequence

from imf_deploy.data.dataset import DataSet, Split
from imf_deploy.records.report import ClassImages

FEW = 10
"""Number of images below which the accuracy of a class says little: 9 right of 10 are 60 to 98 %."""
UNEVEN = 5
"""Ratio of the most common class to the rarest from which on balancing is worth a trial (ours)."""


def class_counts(data: DataSet) -> list[ClassImages]:
    """Return the numbers of images of each class, in the order of the logits."""

    def counts(split: Split) -> list[int]:
        numbers: list[int] = split.labels.bincount(minlength=data.preprocess.num_classes).tolist()
        return numbers

    columns = zip(counts(data.train), counts(data.validation), counts(data.test), strict=True)
    return [ClassImages(label, *row) for label, row in zip(data.preprocess.labels, columns, strict=True)]


def scarcity_notes(data: DataSet) -> tuple[str, ...]:
    """Return notes on classes with few images, as sentences; none if every class has enough."""
    counts = class_counts(data)
    notes = []
    untested = [each.label for each in counts if not each.test]
    if untested:
        notes.append(f"No test image shows {_some(untested)}: nothing is measured for it")
    few = [each.label for each in counts if 0 < each.test < FEW]
    if few:
        least = min((each for each in counts if each.test), key=lambda each: each.test)
        notes.append(
            f"{len(few)} of {len(counts)} classes have fewer than {FEW} test images, '{least.label}' only "
            f"{least.test}: accuracies of single classes say little"
        )
    rare, common = (pick(counts, key=lambda each: each.train) for pick in (min, max))
    if common.train >= UNEVEN * rare.train:
        notes.append(
            f"Class '{rare.label}' has {rare.train} training image(s) and '{common.label}' {common.train}: "
            "--balance raises rare classes"
        )
    elif rare.train < FEW:
        notes.append(f"Class '{rare.label}' has only {rare.train} training image(s)")
    return tuple(notes)


def _some(labels: Sequence[str]) -> str:
    shown = ", ".join(f"'{label}'" for label in labels[:4])
    return shown + (f" and {len(labels) - 4} more classes" if len(labels) > 4 else "")
