"""Find images that are in two splits: accuracy on images seen in training says nothing about new ones."""

import torch

from imf_deploy.data.dataset import DataSet, Split


def overlap_notes(data: DataSet) -> tuple[str, ...]:
    """Return notes on the images of a split whose bytes equal those of an image of an earlier split.

    Images are compared by the marks of their sources; for a data set without marks there are no notes.
    """
    named = {"training": data.train, "validation": data.validation, "test": data.test}
    pairs = [("validation", "training"), ("test", "training"), ("test", "validation")]
    if data.unlabelled is not None:
        named["unlabelled"] = data.unlabelled
        pairs += [("validation", "unlabelled"), ("test", "unlabelled")]
    notes = []
    for later, earlier in pairs:
        total, copies = len(named[later]), _copies(named[later], named[earlier])
        consequence = (
            "accuracy on them says nothing about new images"
            if earlier in ("training", "unlabelled")
            else "a choice made on one split cannot be judged fairly on the other"
        )
        count = f"All {total}" if copies == total else f"{copies} of {total}"
        if copies:
            notes.append(
                f"{count} {later} images are copies of {earlier} images (the same bytes): {consequence}"
            )
    return tuple(notes)


def _copies(later: Split, earlier: Split) -> int:
    """Return how many images of one split are in another."""
    if later.marks is None or earlier.marks is None:
        return 0
    return int(torch.isin(later.marks, earlier.marks).sum())
