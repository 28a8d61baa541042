"""Temperature scaling: one number that makes the confidences of a classifier fit its accuracy."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from imf_deploy.tasks.answers import log_softmax
from imf_deploy.tasks.task import Outputs

LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of a temperature: a network that is right on every image would get 0, and one that guesses none."""
_STEPS = 60


def fit_temperature(logits: Outputs, labels: npt.NDArray[np.int64]) -> float:
    """Return the temperature that minimises the negative log-likelihood of ``logits / temperature``.

    The likelihood is convex in ``1 / temperature``, so the root of its derivative is found by bisection of
    the logarithm, between :data:`LOWEST` and :data:`HIGHEST`. Source: Guo, Pleiss, Sun and Weinberger, "On
    Calibration of Modern Neural Networks", ICML 2017.

    Args:
        logits: ``[N, classes]``; all finite.
        labels: Correct classes, ``[N]``, of images that the network was not trained on.
    """
    wide = logits.astype(np.float64)
    wide -= wide.max(1, keepdims=True)
    own = float(wide[np.arange(len(labels)), labels].mean())

    def slope(log_temperature: float) -> float:
        """Return the derivative of the likelihood with respect to ``1 / temperature``."""
        likely = np.exp(log_softmax(wide * math.exp(-log_temperature)))
        return float((likely * wide).sum(1).mean()) - own

    low, high = math.log(LOWEST), math.log(HIGHEST)
    if slope(0.0) == 0.0:  # no temperature changes anything
        return 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        # The derivative rises with 1 / temperature: above 0, the temperature has to rise.
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return math.exp((low + high) / 2)
