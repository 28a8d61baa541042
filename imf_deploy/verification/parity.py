"""Comparison of a file with the PyTorch model that it was made from: logits, decisions, accuracy."""

import numpy as np
import numpy.typing as npt

from imf_deploy.records.checks import Verification
from imf_deploy.settings import Gate
from imf_deploy.tasks.classification import CLASSIFICATION
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
