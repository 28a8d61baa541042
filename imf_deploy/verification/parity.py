"""Comparison of a file with the PyTorch model that it was made from: logits, accuracy, changed classes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from imf_deploy.records.checks import ClassChange, Verification, WorstInput
from imf_deploy.settings import Gate
from imf_deploy.tasks.classification import CLASSIFICATION, log_softmax, same_class
from imf_deploy.tasks.task import Task
from imf_deploy.verification.ladder import Array


def compare(
    logits: Array, pytorch: Array, labels: npt.NDArray[np.int64], gate: Gate, task: Task = CLASSIFICATION
) -> Verification:
    """Compare the logits of a file with the PyTorch model's, on the same images.

    Args:
        logits: Logits of the file, ``[N, classes]``.
        pytorch: Logits of the PyTorch model, ``[N, classes]``.
        labels: Correct classes, ``[N]``.
        gate: The gate that the file must not miss.
        task: Defines which answers are correct, and which are the same.

    Returns:
        The differences, the accuracies with their 95 % confidence intervals (Wilson), and whether the gate
        holds; the ladder is empty.
    """
    wide, reference = logits.astype(np.float64), pytorch.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinities are reported by the ladder
        difference = np.abs(wide - reference)
        norms = float(np.linalg.norm(wide) * np.linalg.norm(reference))
        product = float((wide * reference).sum())
    accuracy, pytorch_accuracy = (float(task.right(each, labels).mean()) for each in (logits, pytorch))
    agreement = float(task.same(wide, reference).mean())
    reason = gate.reason(accuracy, pytorch_accuracy, agreement)
    return Verification(
        status="fail" if reason else "pass",
        reason=reason or None,
        gate=gate,
        ladder=[],
        images=len(labels),
        max_abs_diff=float(difference.max()),
        mean_abs_diff=float(difference.mean()),
        cosine=product / norms if norms else 0.0,
        agreement=agreement,
        accuracy=accuracy,
        accuracy_interval=task.interval(accuracy, len(labels)),
        pytorch_accuracy=pytorch_accuracy,
        pytorch_accuracy_interval=task.interval(pytorch_accuracy, len(labels)),
    )


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
