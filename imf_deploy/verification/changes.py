"""What a file decides otherwise than PyTorch: class by class, and on which images most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imf_deploy.tasks.classification import log_softmax, same_class
from imf_deploy.verification.ladder import Array

WORST = 8
"""Images that are kept of every file."""


@dataclass(frozen=True)
class ClassChange:
    """One class of the test split.

    Attributes:
        label: Its name.
        images: How many images of it there are.
        pytorch_right: How many of them PyTorch gets right.
        right: How many the file gets right.
        changed: How many the file puts into another class than PyTorch does.
    """

    label: str
    images: int
    pytorch_right: int
    right: int
    changed: int


@dataclass(frozen=True)
class WorstInput:
    """An image on which a file is far from PyTorch.

    Attributes:
        image: Its position in the test split.
        label: Its right class.
        pytorch: What PyTorch takes it for, and ``pytorch_probability`` how sure it is.
        answer: What the file takes it for, and ``probability`` how sure it is.
        divergence: KL divergence of the file's probabilities from PyTorch's, in nats.
    """

    image: int
    label: str
    pytorch: str
    pytorch_probability: float
    answer: str
    probability: float
    divergence: float


def class_changes(
    logits: Array, pytorch: Array, labels: npt.NDArray[np.int64], names: Sequence[str]
) -> list[ClassChange]:
    """Return every class with what PyTorch and the file make of it, in the order of the classes.

    Args:
        logits: Of the file, ``[N, classes]``.
        pytorch: Of the PyTorch model, ``[N, classes]``.
        labels: Right classes, ``[N]``.
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
    """Return the images that a file is farthest from PyTorch on, changed classes first.

    Args:
        logits: Of the file, ``[N, classes]``; all finite.
        pytorch: Of the PyTorch model, ``[N, classes]``.
        labels: Right classes, ``[N]``.
        names: Names of the classes.
        count: At most so many.
    """
    log_p, log_q = log_softmax(pytorch), log_softmax(logits)
    divergence = (np.exp(log_p) * (log_p - log_q)).sum(1)
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


def changes(
    logits: Array, pytorch: Array, labels: npt.NDArray[np.int64], names: Sequence[str]
) -> dict[str, Any]:
    """Return ``classes`` and ``worst`` as records hold them; no images where logits are not finite."""
    worst = worst_inputs(logits, pytorch, labels, names) if np.isfinite(logits).all() else []
    return {
        "classes": [asdict(row) for row in class_changes(logits, pytorch, labels, names)],
        "worst": [asdict(row) for row in worst],
    }
