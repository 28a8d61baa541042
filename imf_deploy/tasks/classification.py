"""Single-label classification: which class is chosen, how often it is right, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from imf_deploy.data import Split
from imf_deploy.data.batches import Batch
from imf_deploy.preprocess import Preprocess
from imf_deploy.tasks.evaluate import logits_of


def top1(
    predict: Callable[[Tensor], Tensor],
    split: Split,
    preprocess: Preprocess,
    device: torch.device,
    batches: Iterator[Batch] | None = None,
) -> float:
    """Return the part of a split whose largest logit is right, from 0 to 1; see :func:`logits_of`."""
    right = logits_of(predict, split, preprocess, device, batches).argmax(1) == split.labels
    return float(right.double().mean())


def log_softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the logarithm of the probabilities, ``float64 [N, classes]``; safe for large logits."""
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(1, keepdims=True)
    normalised: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return normalised


def are_probabilities(logits: npt.NDArray[np.floating]) -> bool:
    """Return whether the outputs of a network are behind a softmax: no value below 0, and rows that sum to 1.

    Args:
        logits: ``[N, classes]``.
    """
    wide = logits.astype(np.float64)
    return bool((wide >= 0).all() and (np.abs(wide.sum(1) - 1) < 1e-3).all())


def as_logits(probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return logits whose softmax gives the probabilities, ``float32 [N, classes]``.

    Below 1e-12 a probability has no more digits that count.
    """
    logits: npt.NDArray[np.float32] = np.log(np.maximum(probabilities, 1e-12)).astype(np.float32)
    return logits


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
    same: npt.NDArray[np.bool_] = (first == second).all(1) & first.any(1)
    return same


def wilson_interval(accuracy: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the confidence interval of an accuracy measured on ``count`` images.

    Args:
        accuracy: From 0 to 1.
        count: Number of images.
        z: Two-sided quantile of the normal distribution; the default gives the 95 % interval.

    Source: Wilson 1927; unlike the normal approximation it stays within 0 and 1.
    """
    centre = (accuracy + z * z / (2 * count)) / (1 + z * z / count)
    half = (
        z / (1 + z * z / count) * math.sqrt(accuracy * (1 - accuracy) / count + z * z / (4 * count * count))
    )
    return max(centre - half, 0.0), min(centre + half, 1.0)
