"""The numbers of images of each class and split, for a report."""

from __future__ import annotations

from dataclasses import dataclass

from imf_deploy.records.report import ClassImages, Report

SHOWN = 20
"""Number of classes that a report shows at once; of more, those with the fewest training images."""


@dataclass(frozen=True)
class Images:
    """What a report shows of its images.

    Attributes:
        sentence: Numbers of images of the splits.
        rows: The classes that are shown.
        more: Number of classes that are left out.
        total: Sums over all classes.
    """

    sentence: str
    rows: list[ClassImages]
    more: int
    total: ClassImages


def images_of(report: Report) -> Images | None:
    """Return what is shown of a report's images; ``None`` if its record does not count them."""
    classes = report.classes
    if not classes:
        return None
    names = ("train", "validation", "test")
    total = ClassImages("all", *(sum(getattr(each, name) for each in classes) for name in names))
    rows = classes
    if len(classes) > SHOWN:
        fewest = sorted(range(len(classes)), key=lambda index: classes[index].train)[:SHOWN]
        rows = [classes[index] for index in sorted(fewest)]
    least, most = min(each.train for each in classes), max(each.train for each in classes)
    each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    sentence = (
        f"{total.train:,} training images ({each} of each of {len(classes):,} classes), "
        f"{total.validation:,} for validation and {total.test:,} for the test"
    )
    if report.unlabelled:
        sentence += f"; the distillation also used {report.unlabelled:,} without labels"
    return Images(f"{sentence}.", rows, len(classes) - len(rows), total)
