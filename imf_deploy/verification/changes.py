"""Differences between the decisions of a file and of PyTorch: by class, and for the most different images.

These tables are specific to single-label classification.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from imf_deploy.records.checks import ClassChange, WorstInput
from imf_deploy.tasks.classification import CLASSIFICATION, log_softmax, same_class
from imf_deploy.verification.ladder import Array

WORST = 8
"""Number of images that are kept for every file."""


def class_changes(
    logits: Array, pytorch: Array, labels: npt.NDArray[np.int64], names: Sequence[str]
) -> list[ClassChange]:
    """Return every class with the results of PyTorch and of the file, in the order of the classes.

    Args:
        logits: Logits of the file, ``[N, classes]``.
        pytorch: Logits of the PyTorch model, ``[N, classes]``.
        labels: Correct classes, ``[N]``.
        names: Names of the classes.
    """
    chosen, expected = logits.argmax(1), pytorch.argmax(1)
    changed = ~same_class(logits, pytorch)
    rows = []
    for index, name in enumerate(names):
        own = labels == index
        rows.append(
            ClassChange(
                name,
                int(own.sum()),
                int((expected[own] == index).sum()),
                int((chosen[own] == index).sum()),
                int(changed[own].sum()),
            )
        )
    return rows


def worst_inputs(
    logits: Array, pytorch: Array, labels: npt.NDArray[np.int64], names: Sequence[str], count: int = WORST
) -> list[WorstInput]:
    """Return the images for which a file differs most from PyTorch, changed classes first.

    If a logit is not finite, there are none.

    Args:
        logits: Logits of the file, ``[N, classes]``.
        pytorch: Logits of the PyTorch model, ``[N, classes]``.
        labels: Correct classes, ``[N]``.
        names: Names of the classes.
        count: Maximum number of images.
    """
    if not np.isfinite(logits).all():
        return []
    log_p, log_q = log_softmax(pytorch), log_softmax(logits)
    divergence = CLASSIFICATION.divergence(logits, pytorch)
    chosen, expected = logits.argmax(1), pytorch.argmax(1)
    order = np.lexsort((-divergence, same_class(logits, pytorch)))[:count]
    return [
        WorstInput(
            int(i),
            names[labels[i]],
            names[expected[i]],
            float(np.exp(log_p[i, expected[i]])),
            names[chosen[i]],
            float(np.exp(log_q[i, chosen[i]])),
            float(divergence[i]),
        )
        for i in order
    ]
