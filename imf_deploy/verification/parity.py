"""Comparison of a file with the PyTorch model that it was made from: logits, accuracy, changed classes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from imf_deploy.records.checks import ClassChange, Verification, WorstInput
from imf_deploy.records.metrics import missed
from imf_deploy.settings import Gate
from imf_deploy.tasks.answers import NO_ANSWER, Answers, log_softmax
from imf_deploy.tasks.classification import CLASSIFICATION, are_probabilities, as_logits, same_class
from imf_deploy.tasks.task import Task
from imf_deploy.verification.ladder import Array
from imf_deploy.verification.metrics import Metrics


def compare(
    logits: Array,
    pytorch: Array,
    labels: npt.NDArray[np.int64],
    gate: Gate,
    task: Task = CLASSIFICATION,
    metrics: Metrics | None = None,
) -> Verification:
    """Compare the logits of a file with the PyTorch model's, on the same images.

    Args:
        logits: Logits of the file, ``[N, classes]``.
        pytorch: Logits of the PyTorch model, ``[N, classes]``.
        labels: Correct classes, ``[N]``.
        gate: The gate that the file must not miss.
        task: Defines which answers are correct, and which are the same.
        metrics: Further metrics to measure, at least those that the gate names.

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
    measured = metrics.measure(logits, pytorch, labels) if metrics else {}
    reason = missed(gate, accuracy, pytorch_accuracy, agreement, measured)
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
        metrics=measured,
    )


MOST_CELLS = 10_000
"""Number of cells of a confusion matrix that are kept for every file; a report may have 30 files."""
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
    own, expected = Answers(logits, labels), Answers(pytorch, labels)
    confused, expected_confused = _confused(own, names), _confused(expected, names)
    changed = np.bincount(labels[~same_class(logits, pytorch)], minlength=len(names))
    return [
        ClassChange(
            name,
            int(own.images[index]),
            int(expected.right[index]),
            int(own.right[index]),
            int(changed[index]),
            int(own.predicted[index]),
            int(expected.predicted[index]),
            confused[index],
            expected_confused[index],
        )
        for index, name in enumerate(names)
    ]


def _confused(answers: Answers, names: Sequence[str]) -> list[dict[str, int]]:
    """Return the rows of the confusion matrix without its diagonal, by the name of the chosen class."""
    rows: list[dict[str, int]] = [{} for _ in names]
    for label, chosen, count in answers.confused(MOST_CELLS):
        rows[label]["" if chosen == NO_ANSWER else names[chosen]] = count
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
    if are_probabilities(pytorch):
        logits, pytorch = as_logits(logits), as_logits(pytorch)
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
