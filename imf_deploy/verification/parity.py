"""Comparison of a file with the PyTorch model that it was made from: logits, decisions, accuracy."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imf_deploy.settings import Gate
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.tasks.task import Task
from imf_deploy.verification.ladder import Array


@dataclass(frozen=True)
class Parity:
    """A file compared with its PyTorch model, on the same images.

    Attributes:
        images: Number of images.
        max_abs_diff: Largest absolute difference of any logit.
        mean_abs_diff: Mean absolute difference of all logits.
        cosine: Cosine of the angle between all logits of both.
        agreement: Fraction of the images on which both choose the same class.
        accuracy: Accuracy of the file, from 0 to 1.
        accuracy_interval: Its 95 % confidence interval (Wilson).
        pytorch_accuracy: Accuracy of the PyTorch model.
        pytorch_accuracy_interval: Its 95 % confidence interval.
    """

    images: int
    max_abs_diff: float
    mean_abs_diff: float
    cosine: float
    agreement: float
    accuracy: float
    accuracy_interval: tuple[float, float]
    pytorch_accuracy: float
    pytorch_accuracy_interval: tuple[float, float]

    def missed(self, gate: Gate) -> str:
        """Return why the file misses a gate; empty if it passes."""
        return gate.reason(self.accuracy, self.pytorch_accuracy, self.agreement)


def compare(
    logits: Array, pytorch: Array, labels: npt.NDArray[np.int64], task: Task = CLASSIFICATION
) -> Parity:
    """Compare the logits of a file with the PyTorch model's.

    Args:
        logits: Logits of the file, ``[N, classes]``.
        pytorch: Logits of the PyTorch model, ``[N, classes]``.
        labels: Correct classes, ``[N]``.
        task: Defines which answers are correct, and which are the same.
    """
    wide, reference = logits.astype(np.float64), pytorch.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinities are reported by the ladder
        difference = np.abs(wide - reference)
        norms = float(np.linalg.norm(wide) * np.linalg.norm(reference))
        product = float((wide * reference).sum())
    accuracy, pytorch_accuracy = (float(task.right(each, labels).mean()) for each in (logits, pytorch))
    return Parity(
        images=len(labels),
        max_abs_diff=float(difference.max()),
        mean_abs_diff=float(difference.mean()),
        cosine=product / norms if norms else 0.0,
        agreement=float(task.same(wide, reference).mean()),
        accuracy=accuracy,
        accuracy_interval=task.interval(accuracy, len(labels)),
        pytorch_accuracy=pytorch_accuracy,
        pytorch_accuracy_interval=task.interval(pytorch_accuracy, len(labels)),
    )
