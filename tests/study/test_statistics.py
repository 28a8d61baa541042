from __future__ import annotations

import math

import pytest

from imf_deploy.study.statistics import Difference, paired_difference, paired_ratio, spread, t_quantile


@pytest.mark.parametrize(
    ("freedom", "t"),  # two-sided 95 %, from the tables of any statistics book
    [
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (6, 2.447),
        (7, 2.365),
        (9, 2.262),
        (10, 2.228),
        (30, 2.042),
        (120, 1.980),
    ],
)
def test_t_is_that_of_the_tables(freedom: int, t: float) -> None:
    assert t_quantile(freedom) == pytest.approx(t, abs=5e-4)


def test_t_of_other_confidences() -> None:
    assert t_quantile(1, 0.5) == pytest.approx(1)  # Cauchy: a half lies within 1
    assert t_quantile(4, 0.99) == pytest.approx(4.604, abs=5e-4)
    assert t_quantile(5, 0.99) == pytest.approx(4.032, abs=5e-4)
    assert t_quantile(2, 0.9) == pytest.approx(2.920, abs=5e-4)


@pytest.mark.parametrize(("freedom", "confidence"), [(0, 0.95), (3, 0.0), (3, 1.0)])
def test_t_refuses_what_has_none(freedom: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="no t for"):
        t_quantile(freedom, confidence)


def test_spread_takes_one_degree_of_freedom_off() -> None:
    told = spread([0.80, 0.82, 0.87])  # squares of 0.03, 0.01, 0.04 add up to 0.0026
    assert told.mean == pytest.approx(0.83)
    assert told.deviation == pytest.approx(math.sqrt(0.0013))
    assert told.count == 3


def test_spread_of_one_value_and_of_none() -> None:
    assert (spread([0.5]).mean, spread([0.5]).deviation) == (0.5, None)
    assert (spread([]).mean, spread([]).deviation, spread([]).count) == (None, None, 0)


def test_interval_is_of_the_differences_within_a_seed() -> None:
    # Differences 0.01, 0.02, 0.03: mean 0.02, deviation 0.01, half 4.3027 * 0.01 / sqrt(3) = 0.02484.
    told = paired_difference({0: 0.81, 1: 0.92, 2: 0.73}, {0: 0.80, 1: 0.90, 2: 0.70})
    assert told.mean == pytest.approx(0.02)
    assert told.low == pytest.approx(-0.00484, abs=1e-5)
    assert told.high == pytest.approx(0.04484, abs=1e-5)
    assert (told.pairs, told.left_out, told.excludes_zero) == (3, 0, False)


def test_interval_on_either_side_of_zero_excludes_it() -> None:
    ours, theirs = {0: 0.81, 1: 0.812}, {0: 0.70, 1: 0.70}
    # Half of two pairs: 12.706 * 0.001414 / sqrt(2) = 0.0127.
    assert paired_difference(ours, theirs).excludes_zero
    assert paired_difference(theirs, ours).excludes_zero
    assert paired_difference(theirs, ours).high == pytest.approx(-0.111 + 0.012706, abs=1e-6)


def test_seeds_of_one_side_are_left_out_and_counted() -> None:
    told = paired_difference({0: 0.9, 1: 0.8, 2: 0.5}, {1: 0.7, 0: 0.7, 7: 0.1, 8: 0.2})
    assert told.mean == pytest.approx(0.15)
    assert (told.pairs, told.left_out) == (2, 3)


def test_no_interval_below_two_pairs() -> None:
    assert paired_difference({0: 0.5}, {0: 0.25, 1: 0.3}) == Difference(0.25, None, None, 1, 1)
    assert paired_difference({0: 0.5}, {1: 0.3}) == Difference(None, None, None, 0, 2)
    assert not paired_difference({0: 0.5}, {0: 0.25}).excludes_zero


def test_no_interval_where_all_differences_are_the_same() -> None:
    # 0.81 - 0.80 and 0.91 - 0.90 differ in the last bit only.
    told = paired_difference({0: 0.81, 1: 0.91}, {0: 0.80, 1: 0.90})
    assert told.mean == pytest.approx(0.01)
    assert (told.low, told.high, told.pairs, told.excludes_zero) == (None, None, 2, False)


def test_ratio_is_the_median_over_pairs() -> None:
    assert paired_ratio({0: 12.0, 1: 22.0, 2: 90.0}, {0: 10.0, 1: 20.0, 2: 30.0, 3: 1.0}) == 1.2
    assert paired_ratio({0: 12.0}, {1: 10.0}) is None
    assert paired_ratio({0: 12.0}, {0: 0.0}) is None, "a training without a measured time"
