"""Counts of an activation's values in bins that are fixed in advance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

HALF = 2048
"""Bins on either side of zero."""


class Histogram:
    """Values between ``-limit`` and ``limit`` in ``2 * HALF`` bins of one width; zero is an edge.

    Its size does not depend on how many values it counts.

    Args:
        low: Smallest value, at most zero.
        high: Largest value, at least zero.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low = low
        self.high = high
        self.limit = max(-low, high)
        self.counts = np.zeros(2 * HALF, np.int64)
        self.zeros = 0

    @property
    def width(self) -> float:
        """Width of a bin."""
        return self.limit / HALF

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Edges of the bins, ``[2 * HALF + 1]``."""
        return np.linspace(-self.limit, self.limit, 2 * HALF + 1)

    @property
    def nonzero(self) -> npt.NDArray[np.int64]:
        """Counts without values that are exactly zero, which every quantisation keeps exactly."""
        counts = self.counts.copy()
        counts[HALF] -= self.zeros
        return counts

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count values of any shape."""
        if self.limit == 0:
            return
        flat = values.ravel()
        # Bins of one width need no search, which is several times as fast as np.histogram.
        bins = ((flat + np.float32(self.limit)) * np.float32(1 / self.width)).astype(np.int32)
        np.clip(bins, 0, 2 * HALF - 1, out=bins)
        # Rounding may put an exact zero on either side of its edge.
        bins[flat == 0] = HALF
        self.counts += np.bincount(bins, minlength=2 * HALF)
        self.zeros += int(flat.size - np.count_nonzero(flat))
