"""Means over seeds, and the paired interval of a difference between two trainings."""

import math
import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass

CONFIDENCE = 0.95
_DIGITS = 12
"""Decimals of a difference; further ones are rounding errors, which must not decide whether it is zero."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation.

    Attributes:
        mean: Mean of the values; ``None`` if there are none.
        deviation: Sample standard deviation (n - 1); ``None`` for fewer than two values.
        count: Number of values.
    """

    mean: float | None
    deviation: float | None
    count: int


@dataclass(frozen=True)
class Difference:
    """Mean of per-seed differences, with its interval.

    Attributes:
        mean: Mean of the differences; ``None`` without a pair.
        low: Lower end of the interval; ``None`` if there is no interval.
        high: Upper end of the interval.
        pairs: Number of seeds that both sides have.
        left_out: Number of seeds that only one side has.
    """

    mean: float | None
    low: float | None
    high: float | None
    pairs: int
    left_out: int

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and zero is outside of it."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def spread(values: Collection[float]) -> Spread:
    """Return mean and sample standard deviation of values in any unit."""
    return Spread(
        statistics.fmean(values) if values else None,
        statistics.stdev(values) if len(values) > 1 else None,
        len(values),
    )


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference:
    """Return the mean of ours minus theirs over the seeds, with Student's two-sided 95 % interval.

    A seed fixes order and augmentation (and the weights, where both sides have the same architecture),
    so the difference within a seed varies less than the two sides do. The interval covers the variation
    of training: where the mean would lie if more seeds were trained and tested on the same images. It does
    not cover the sampling of the test images, which would need the answers for each image.

    There is no interval for fewer than two pairs, nor if all differences are equal: accuracies come in steps
    of one image, so a deviation of zero is a coincidence.

    Args:
        ours: A value for each seed.
        theirs: A value of the other side for each seed.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    left_out = len(ours.keys() ^ theirs.keys())
    differences = [round(ours[seed] - theirs[seed], _DIGITS) for seed in seeds]
    if not differences:
        return Difference(None, None, None, 0, left_out)
    mean = round(statistics.fmean(differences), _DIGITS)
    if len(set(differences)) == 1:
        return Difference(mean, None, None, len(seeds), left_out)
    error = statistics.stdev(differences) / math.sqrt(len(seeds))
    half = t_quantile(len(seeds) - 1) * error
    return Difference(mean, mean - half, mean + half, len(seeds), left_out)


def paired_ratio(ours: Mapping[int, float], theirs: Mapping[int, float]) -> float | None:
    """Return the median over the seeds of ours divided by theirs; ``None`` without a pair.

    The median is robust against a single training that was slowed down by another process.
    """
    ratios = [ours[seed] / theirs[seed] for seed in ours.keys() & theirs.keys() if theirs[seed] > 0]
    return statistics.median(ratios) if ratios else None


def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Return t for which Student's T has ``P(|T| <= t) = confidence``.

    For integer degrees of freedom the distribution is a finite sum (Abramowitz and Stegun 1964, 26.7.3
    and 26.7.4) that rises with t; bisection finds where it equals ``confidence``. This avoids a dependency
    on scipy.

    Args:
        freedom: Degrees of freedom, 1 or more.
        confidence: Above 0 and below 1.

    Raises:
        ValueError: either is out of its range.
    """
    if freedom < 1 or not 0 < confidence < 1:
        raise ValueError(f"no t for {freedom} degrees of freedom and a confidence of {confidence}")
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # halves of pi/2 down to the last bit
        middle = (low + high) / 2
        if _central_probability(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)


def _central_probability(angle: float, freedom: int) -> float:
    """Return ``P(|T| <= t)`` for ``t = sqrt(freedom) * tan(angle)``."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = total = 0.0 if freedom == 1 else cosine if odd else 1.0
    # Odd: cos + 2/3 cos^3 + (2*4)/(3*5) cos^5 ...; even: 1 + 1/2 cos^2 + (1*3)/(2*4) cos^4 ...
    for power in range(2 + odd, freedom - 1, 2):
        term *= (power - 1) / power * cosine**2
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
