"""The answers of a classifier on labelled images, and what every metric needs of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from imf_deploy.tasks.task import Outputs

Counts = npt.NDArray[np.int64]
NO_ANSWER = -1
"""Stands for the class that is chosen by logits with NaN."""
_Z95 = 1.959964
_ROWS = 4096
"""Images whose probabilities are in memory at once."""


def chosen_classes(outputs: Outputs) -> Counts:
    """Return the class of the largest logit of each image, ``int64 [N]``: the first of those that share it.

    Logits with NaN choose :data:`NO_ANSWER`.
    """
    return np.where(np.isnan(outputs).any(1), NO_ANSWER, outputs.argmax(1)).astype(np.int64)


def log_softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the logarithm of the probabilities, ``float64 [N, classes]``; safe for large logits."""
    wide = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # logits that are not finite give NaN
        shifted = wide - wide.max(1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)), np.float64)


@dataclass(frozen=True)
class Answers:
    """Logits of a classifier, and the correct classes.

    Attributes:
        logits: ``[N, classes]``.
        labels: ``int [N]``.
    """

    logits: Outputs
    labels: npt.NDArray[Any]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.logits.shape[1])

    @cached_property
    def chosen(self) -> Counts:
        """See :func:`chosen_classes`."""
        return chosen_classes(self.logits)

    @cached_property
    def likelihoods(self) -> npt.NDArray[np.float64]:
        """Logarithms of the probabilities of the label and of the chosen class, ``float64 [2, N]``."""
        parts = []
        for start in range(0, len(self.labels), _ROWS):
            own = slice(start, start + _ROWS)
            log = log_softmax(self.logits[own])
            parts.append(np.stack([log[np.arange(len(log)), self.labels[own]], log.max(1)]))
        return np.concatenate(parts, 1)

    @cached_property
    def images(self) -> Counts:
        """Number of images of each class, ``int64 [classes]``."""
        return np.bincount(self.labels, minlength=self.classes)

    @cached_property
    def predicted(self) -> Counts:
        """Number of images for which each class is chosen, ``int64 [classes]``."""
        return np.bincount(self.chosen[self.chosen >= 0], minlength=self.classes)

    @cached_property
    def right(self) -> Counts:
        """Number of images of each class for which it is chosen, ``int64 [classes]``."""
        return np.bincount(self.labels[self.chosen == self.labels], minlength=self.classes)

    def recall(self) -> npt.NDArray[np.float64]:
        """Return the part of each class's images that get the class; NaN for a class without images."""
        return _ratio(self.right, self.images)

    def precision(self) -> npt.NDArray[np.float64]:
        """Return the part of the images that get a class which are of it; NaN for a class that none gets."""
        return _ratio(self.right, self.predicted)

    def f1(self) -> npt.NDArray[np.float64]:
        """Return the harmonic mean of precision and recall, ``2 right / (images + predicted)``.

        It is NaN for a class without images, and 0 for one with images that none gets.
        """
        return np.where(self.images > 0, _ratio(2 * self.right, self.images + self.predicted), np.nan)

    def balanced_accuracy(self) -> float:
        """Return the mean recall of the classes that have images."""
        return float(self.recall()[self.images > 0].mean())

    def macro_f1(self) -> float:
        """Return the mean F1 of the classes that have images."""
        return float(self.f1()[self.images > 0].mean())

    def top(self, k: int) -> float:
        """Return the part of the images whose label is among the ``k`` largest logits.

        Of equal logits, that of the earlier class counts as the larger one, as for the chosen class.
        """
        rows = np.arange(len(self.labels))
        own = self.logits[rows, self.labels][:, None]
        earlier = np.arange(self.classes) < np.asarray(self.labels)[:, None]
        before = (self.logits > own) | ((self.logits == own) & earlier)
        return float(((before.sum(1) < k) & (self.chosen != NO_ANSWER)).mean())

    def nll(self) -> tuple[float, float]:
        """Return the mean negative log-likelihood of the labels in nats, and half of its 95 % interval.

        The interval is that of a mean of many values (normal approximation).
        """
        losses = -self.likelihoods[0]
        spread = losses.std(ddof=1) if len(losses) > 1 else np.nan
        return float(losses.mean()), float(_Z95 * spread / np.sqrt(len(losses)))

    def ece(self, bins: int = 15) -> float:
        """Return the expected calibration error of the chosen classes, from 0 to 1.

        Images are put into bins of equal width by the probability of their class, ``((i - 1) / bins, i /
        bins]``. The result is the mean difference of accuracy and mean probability of the bins, weighted by
        their images. Source: Naeini, Cooper and Hauskrecht, AAAI 2015; Guo, Pleiss, Sun and Weinberger, ICML
        2017, with 15 bins.
        """
        sure = np.exp(self.likelihoods[1])
        if np.isnan(sure).any():
            return float("nan")
        edges = np.linspace(0, 1, bins + 1)
        place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
        gaps = np.bincount(place, (self.chosen == self.labels) - sure, minlength=bins)
        return float(np.abs(gaps).sum() / len(sure))

    def confused(self, most: int) -> list[tuple[int, int, int]]:
        """Return the cells of the confusion matrix beside its diagonal that are not 0, the largest first.

        Args:
            most: Maximum number of cells.

        Returns:
            Label, chosen class (or :data:`NO_ANSWER`), and number of images of each.
        """
        wrong = self.chosen != self.labels
        pairs = np.stack([self.labels[wrong], self.chosen[wrong]], 1)
        cells, counts = np.unique(pairs, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:most]
        return [(int(cells[i, 0]), int(cells[i, 1]), int(counts[i])) for i in order]


def _ratio(part: Counts, whole: Counts) -> npt.NDArray[np.float64]:
    ratio: npt.NDArray[np.float64] = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return ratio
