"""Choose the range of an activation from a histogram of its values: what is outside saturates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Range = tuple[float, float]
"""Smallest and largest value that are represented; zero is between them."""

PERCENTILE = 99.99
_LEVELS = 255
_KL_LEVELS = 128
_KL_STEP = 16
_MSE_STEPS = 128


def percentile_range(histogram: Histogram) -> Range:
    """Return the range that contains 99.99 % of all values; half of the rest is on either side.

    Source: the same as in onnxruntime.quantization and NVIDIA's pytorch-quantization.
    """
    counts = histogram.counts
    cut = (100 - PERCENTILE) / 200 * counts.sum()
    cumulated = np.cumsum(counts)
    edges = histogram.edges
    low = edges[np.searchsorted(cumulated, cut, side="right")]
    high = edges[np.searchsorted(cumulated, counts.sum() - cut, side="left") + 1]
    return _within(histogram, float(low), float(high))


def entropy_range(histogram: Histogram) -> Range:
    """Return the range whose 8-bit distribution diverges least from the float one.

    Both signs share one threshold, over the magnitudes that are not zero. Source: Migacz, "8-bit Inference
    with TensorRT", GTC 2017. The search is our own implementation, because onnxruntime's default of 128 bins
    leaves one candidate, the whole range.
    """
    counts = histogram.nonzero
    magnitudes = (counts[HALF:] + counts[:HALF][::-1]).astype(np.float64)
    if not magnitudes.any():
        return _within(histogram, histogram.low, histogram.high)
    ends = np.arange(_KL_LEVELS, HALF + 1, _KL_STEP)
    losses = [_divergence(magnitudes, int(end)) for end in ends]
    # Among equal ranges the widest is chosen: it clips nothing that the others keep.
    best = len(losses) - 1 - int(np.argmin(losses[::-1]))
    limit = float(ends[best]) * histogram.width
    return _within(histogram, -limit, limit)


def _divergence(counts: npt.NDArray[np.float64], end: int) -> float:
    """Return KL(float || 8 bit) if magnitudes from bin ``end`` on saturate."""
    reference = counts[:end].copy()
    reference[-1] += counts[end:].sum()
    starts = np.arange(_KL_LEVELS) * end // _KL_LEVELS
    filled = counts[:end] > 0
    level = np.searchsorted(starts, np.arange(end), side="right") - 1
    mass = np.add.reduceat(counts[:end], starts)
    bins = np.add.reduceat(filled.astype(np.float64), starts)
    spread = np.where(filled, (mass / np.maximum(bins, 1))[level], 0)
    if not spread.any():
        return float("inf")
    p, q = reference / reference.sum(), spread / spread.sum()
    some = p > 0
    return float((p[some] * np.log(p[some] / np.maximum(q[some], 1e-10))).sum())


def mse_range(histogram: Histogram) -> Range:
    """Return the range with the least squared error of 8-bit values.

    The error of a range is the squared error of saturated values, plus a twelfth of the squared step for
    every value inside. Both ends first shrink together, then separately. Source: ours.
    """
    counts = histogram.nonzero.astype(np.float64)
    centres = histogram.edges[:-1] + histogram.width / 2

    def error(low: float, high: float) -> float:
        outside = np.maximum(low - centres, 0) + np.maximum(centres - high, 0)
        inside = counts[outside == 0].sum()
        return float((counts * outside**2).sum() + inside * ((high - low) / _LEVELS) ** 2 / 12)

    parts = np.arange(_MSE_STEPS, 0, -1) / _MSE_STEPS
    # Halving reaches ranges that an outlier makes a thousandth of the whole.
    parts = np.concatenate([parts, parts[-1] * 0.5 ** np.arange(1, 5)])
    low, high = histogram.low, histogram.high
    _, low, high = min(((error(low * p, high * p), low * p, high * p) for p in parts), key=lambda t: t[0])
    for _ in range(2):
        high = min((histogram.high * p for p in parts), key=lambda end: error(low, end))
        low = min((histogram.low * p for p in parts), key=lambda end: error(end, high))
    return _within(histogram, low, high)


def _within(histogram: Histogram, low: float, high: float) -> Range:
    """Return a range that contains zero and does not exceed the observed values."""
    return max(min(low, 0.0), histogram.low), min(max(high, 0.0), histogram.high)


HALF = 2048
"""Bins on either side of zero."""


class Histogram:
    """Values between ``-limit`` and ``limit`` in ``2 * HALF`` bins of one width; zero is an edge.

    Its size does not depend on how many values it counts.

    Args:
        low: Smallest value that will come, at most zero.
        high: Largest value that will come, at least zero.
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
