"""The measured latency of a runner, and the comparison of two."""

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from imf_deploy.errors import UsageError

Nanoseconds = npt.NDArray[np.int64]

MIN_BLOCKS = 6
"""Minimum number of blocks for a 95 % interval: the range of five cannot cover a median that often."""
_RESAMPLES = 10_000
_QUANTILES = (50, 90, 95, 99)


@dataclass(frozen=True, eq=False)
class Latency:
    """All latencies of one runner; none is left out.

    Attributes:
        rounds: Duration of each inference in nanoseconds, one array ``[inferences]`` per round.
        images: Images in the batch of one inference.
        block: Number of rounds between two loads of the file. Effects of a load, such as the address of its
            weights and the cores of its threads, are the same for all rounds of a block.
        energy_j: Energy of the processor during all of these inferences, in joules; ``None`` if it cannot be
            read.
    """

    rounds: tuple[Nanoseconds, ...]
    images: int
    block: int = 1
    energy_j: float | None = None

    @cached_property
    def samples_ms(self) -> npt.NDArray[np.float64]:
        """All latencies in milliseconds, ``[count]``, in the order in which they were measured."""
        return np.concatenate(self.rounds) / 1e6

    @cached_property
    def round_p50_ms(self) -> npt.NDArray[np.float64]:
        """Median latency of each round in milliseconds, ``[rounds]``."""
        return np.array([np.median(samples) for samples in self.rounds]) / 1e6

    @property
    def count(self) -> int:
        """Number of inferences."""
        return int(self.samples_ms.size)

    def percentile(self, percent: float) -> float:
        """Return a percentile in milliseconds, linear between samples as ``numpy.percentile`` is."""
        return float(np.percentile(self.samples_ms, percent))

    @property
    def p50(self) -> float:
        """Median in milliseconds."""
        return self.percentile(50)

    @property
    def p90(self) -> float:
        """90th percentile in milliseconds."""
        return self.percentile(90)

    @property
    def p99(self) -> float:
        """99th percentile in milliseconds."""
        return self.percentile(99)

    @property
    def mean(self) -> float:
        """Mean in milliseconds."""
        return float(self.samples_ms.mean())

    @property
    def std(self) -> float:
        """Standard deviation of the samples in milliseconds."""
        return float(self.samples_ms.std())

    @property
    def variation(self) -> float:
        """Coefficient of variation: standard deviation divided by mean."""
        return self.std / self.mean

    @property
    def throughput(self) -> float:
        """Images per second, one batch after the other: images in a batch divided by the mean."""
        return self.images * 1e3 / self.mean

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; the medians of the rounds are sufficient to compute any ratio again."""
        return {
            "images": self.images,
            "count": self.count,
            **{f"p{q}_ms": self.percentile(q) for q in _QUANTILES},
            "mean_ms": self.mean,
            "std_ms": self.std,
            "coefficient_of_variation": self.variation,
            "images_per_second": self.throughput,
            "round_p50_ms": self.round_p50_ms.tolist(),
            "rounds_per_load": self.block,
            "joules_per_inference": None if self.energy_j is None else self.energy_j / self.count,
        }


@dataclass(frozen=True)
class Ratio:
    """A ratio of latencies with its 95 % confidence interval.

    Attributes:
        value: Above 1, the first is slower than the second.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """Whether the interval excludes 1: a difference that is more than noise."""
        return not self.low <= 1.0 <= self.high


def ratio(a: Latency, b: Latency, seed: int = 0) -> Ratio:
    """Return the latency of ``a`` divided by that of ``b``, measured together by ``measure``.

    The medians of the two are divided within each round, in which the conditions were the same for both. The
    value of a block is the median of these ratios over its rounds, and the result is the median over the
    blocks. A slow round, or a machine that drifts, cancels. The interval is a percentile bootstrap that
    resamples blocks, the same ones for both: rounds between two loads are not independent, and resampling
    them would give too narrow an interval. Sources: Efron and Tibshirani 1993, chapters 8 and 13; for few
    blocks, Hesterberg 2015, What Teachers Should Know About the Bootstrap, The American Statistician 69/4.

    Args:
        a: Latency measured in the same call as ``b``.
        b: The baseline.
        seed: Seed of the resampling.

    Raises:
        UsageError: they differ in rounds or blocks, or there are fewer blocks than ``MIN_BLOCKS``.
    """
    rounds, blocks = len(a.rounds), len(a.rounds) // a.block
    if rounds != len(b.rounds) or a.block != b.block or rounds % a.block or blocks < MIN_BLOCKS:
        raise UsageError(
            f"a ratio needs two latencies with the same {MIN_BLOCKS} or more blocks of rounds; these have "
            f"{rounds} and {len(b.rounds)} rounds in blocks of {a.block} and {b.block}"
        )
    paired = np.median((a.round_p50_ms / b.round_p50_ms).reshape(blocks, a.block), axis=1)
    drawn = np.random.default_rng(seed).integers(0, blocks, (_RESAMPLES, blocks))
    tail = _tail_percent(blocks)
    low, high = np.percentile(np.median(paired[drawn], axis=1), (tail, 100 - tail))
    return Ratio(float(np.median(paired)), float(low), float(high))


def _tail_percent(count: int) -> float:
    """Return the percentage to cut from each end of the bootstrap distribution; 2.5 for very many values.

    A plain percentile interval of few values is too narrow. Hesterberg's expanded interval cuts where a
    Student interval of as many values would end. The quantile is its expansion around the normal one, which
    is within 1 % from six values on.
    """
    z, freedom = 1.959964, count - 1
    student = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return 100 * NormalDist().cdf(-student * math.sqrt(count / freedom))
