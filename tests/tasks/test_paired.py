"""McNemar's exact test and the interval of the difference of two accuracies on the same images."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from imf_deploy.tasks.paired import Paired


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (3, 3), (1, 6), (9, 2), (0, 11)])
def test_the_p_value_counts_throws_of_a_coin(gained: int, lost: int) -> None:
    throws = gained + lost
    apart = abs(gained - lost)
    as_far = sum(abs(2 * sum(sides) - throws) >= apart for sides in itertools.product((0, 1), repeat=throws))
    assert Paired(100, gained, lost).p_value == pytest.approx(as_far / 2**throws)


def test_a_large_test_is_that_of_the_normal_distribution() -> None:
    p = Paired(50_000, 10_300, 9_900).p_value
    z = (10_300 - 9_900 - 1) / math.sqrt(10_300 + 9_900)
    assert p == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.02)


def test_no_image_apart() -> None:
    same = Paired(10, 0, 0)
    assert (same.difference, same.p_value) == (0.0, 1.0)
    low, high = same.interval
    assert low < 0 < high


def test_the_interval_covers_the_true_difference() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        both = random.multinomial(200, [0.7, 0.12, 0.05, 0.13])  # both right, gained, lost, both wrong
        low, high = Paired(200, int(both[1]), int(both[2])).interval
        covered += low <= 0.07 <= high
    assert 930 <= covered <= 985
