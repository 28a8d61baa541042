"""Single-label classification: the chosen class, its correctness, and confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imf_deploy.tasks.answers import Answers, chosen_classes, log_softmax
from imf_deploy.tasks.metric import (
    BALANCED_ACCURACY,
    ECE,
    LARGEST_TOP,
    MACRO_F1,
    NLL,
    TOP1,
    Metric,
    find_class,
    find_top,
    top,
)
from imf_deploy.tasks.task import Outputs, Scored, Shares, Task
from imf_deploy.untrusted import shorten

if TYPE_CHECKING:
    from torch import Tensor


class Classification:
    """Each image has one of the classes, given by the largest logit; see :class:`Task`."""

    metric = "top-1"

    def fits(self, shape: tuple[int, ...], classes: int) -> bool:
        """Return whether there is one column for each class; further dimensions must have length 1."""
        return len(shape) >= 2 and max(shape[1:]) == classes == math.prod(shape[1:])

    def loss(self, outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """Return the cross-entropy of logits ``[N, classes]`` for ``int64 [N]``, or for ``[N, classes]``.

        A row of the latter is the weight of an image times its probabilities; a row of zeros does not count.
        """
        from torch.nn import functional

        if labels.ndim > 1 and smoothing:
            labels = labels * (1 - smoothing) + labels.sum(1, keepdim=True) * (smoothing / labels.shape[1])
            smoothing = 0.0
        return functional.cross_entropy(outputs.float(), labels, label_smoothing=smoothing)

    def imitation(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return KL(teacher || student) of softened probabilities, in nats per image."""
        from torch.nn import functional

        target = (teacher.float() / temperature).log_softmax(-1).expand_as(outputs)
        student = (outputs.float() / temperature).log_softmax(-1)
        distance = functional.kl_div(student, target, reduction="sum", log_target=True)
        return distance / outputs[..., 0].numel()

    def right(self, outputs: Outputs, labels: npt.NDArray[Any]) -> Shares:
        """Return 1 if the largest logit is that of the label, and no logit is NaN."""
        return np.asarray(chosen_classes(outputs) == labels, np.float64)

    def same(self, outputs: Outputs, reference: Outputs) -> Shares:
        """Return 1 if both choose the same class; see :func:`same_class`."""
        return same_class(outputs, reference).astype(np.float64)

    def divergence(self, outputs: Outputs, reference: Outputs) -> npt.NDArray[np.float64]:
        """Return the KL divergence of the probabilities from the reference's, in nats."""
        log_p, log_q = log_softmax(reference), log_softmax(outputs)
        return np.asarray((np.exp(log_p) * (log_p - log_q)).sum(1), np.float64)

    def interval(self, accuracy: float, images: int) -> tuple[float, float]:
        """Return the Wilson interval."""
        return wilson_interval(accuracy, images)

    def shown(self, classes: int) -> list[Metric]:
        """Return accuracy, top-5 accuracy of more than 5 classes, the means over classes, NLL and ECE."""
        tops = [TOP1, top(LARGEST_TOP)] if classes > LARGEST_TOP else [TOP1]
        return [*tops, BALANCED_ACCURACY, MACRO_F1, NLL, ECE]

    def undefined(self, metric: str, labels: npt.NDArray[Any], classes: Sequence[str]) -> str:
        """See :meth:`Task.undefined`."""
        if not len(labels):
            return "there are no images"
        if (k := find_top(metric)) and k > 1 and k >= len(classes):
            return f"there are only {len(classes)} classes"
        if found := find_class(metric):
            if found[1] not in classes:
                return f"there is no class '{shorten(found[1], 40)}'"
            if not (labels == classes.index(found[1])).any():
                return "the class has no images"
        return ""

    def scores(
        self, metrics: Sequence[str], outputs: Outputs, labels: npt.NDArray[Any], classes: Sequence[str]
    ) -> list[Scored]:
        """See :meth:`Task.scores`. Source of the definitions: docs/metrics.md."""
        answers = Answers(outputs, labels)
        return [_score(metric, answers, classes) for metric in metrics]


def _score(name: str, answers: Answers, classes: Sequence[str]) -> Scored:
    if k := find_top(name):
        part = answers.top(k)
        return part, wilson_interval(part, len(answers.labels))
    if found := find_class(name):
        index = classes.index(found[1])
        right, whole = answers.right, answers.images if found[0] == "recall" else answers.predicted
        if not whole[index]:
            return math.nan, None
        part = float(right[index] / whole[index])
        return part, wilson_interval(part, int(whole[index]))
    if name == NLL.name:
        mean, half = answers.nll()
        return mean, (mean - half, mean + half) if math.isfinite(half) else None
    simple = {
        BALANCED_ACCURACY.name: answers.balanced_accuracy,
        MACRO_F1.name: answers.macro_f1,
        ECE.name: answers.ece,
    }
    return simple[name](), None


CLASSIFICATION: Task = Classification()


def are_probabilities(logits: npt.NDArray[np.floating]) -> bool:
    """Return whether the outputs of a network are behind a softmax: no value below 0, and rows that sum to 1.

    Args:
        logits: ``[N, classes]``.
    """
    wide = logits.astype(np.float64)
    return bool((wide >= 0).all() and (np.abs(wide.sum(1) - 1) < 1e-3).all())


def as_logits(probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return logits whose softmax gives the probabilities, ``float32 [N, classes]``.

    Below 1e-12 a probability has no significant digits.
    """
    return np.asarray(np.log(np.maximum(probabilities, 1e-12)), np.float32)


def same_class(
    logits: npt.NDArray[np.floating], reference: npt.NDArray[np.floating]
) -> npt.NDArray[np.bool_]:
    """Return on which images two networks choose the same class, ``bool [N]``.

    Where several classes share the largest logit, they have to be the same ones, so that the order of
    the classes does not decide. A row that holds NaN chooses none.

    Args:
        logits: ``[N, classes]``.
        reference: ``[N, classes]``.
    """
    first, second = (values == values.max(1, keepdims=True) for values in (logits, reference))
    return np.asarray((first == second).all(1) & first.any(1), np.bool_)


def wilson_interval(accuracy: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the confidence interval of an accuracy measured on ``count`` images.

    Args:
        accuracy: Accuracy from 0 to 1.
        count: Number of images.
        z: Two-sided quantile of the normal distribution; the default gives the 95 % interval.

    Source: Wilson 1927; unlike the normal approximation it stays within 0 and 1.
    """
    centre = (accuracy + z * z / (2 * count)) / (1 + z * z / count)
    half = (
        z / (1 + z * z / count) * math.sqrt(accuracy * (1 - accuracy) / count + z * z / (4 * count * count))
    )
    return max(centre - half, 0.0), min(centre + half, 1.0)
