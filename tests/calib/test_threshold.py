from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from imf_deploy.calib.threshold import Histogram, Range, entropy_range, mse_range, percentile_range

RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.normal(0, 1, 200_000).astype(np.float32)
ONE_SIDED = np.maximum(NORMAL, 0)


def counted(values: npt.NDArray[np.float32], pieces: int = 7) -> Histogram:
    histogram = Histogram(min(float(values.min()), 0.0), max(float(values.max()), 0.0))
    for part in np.array_split(values, pieces):
        histogram.add(part.reshape(1, -1))
    return histogram


def quantisation_error(values: npt.NDArray[np.float32], ends: Range) -> float:
    """Really quantise to uint8 and return the mean squared error."""
    low, high = ends
    scale = (high - low) / 255
    zero = round(-low / scale)
    steps = np.clip(np.round(values / scale) + zero, 0, 255)
    return float((((steps - zero) * scale - values) ** 2).mean())


def test_histogram_counts_every_value_where_it_lies() -> None:
    histogram = counted(NORMAL)
    want, _ = np.histogram(NORMAL.astype(np.float64), histogram.edges)
    assert histogram.counts.sum() == len(NORMAL)
    # float32 may put a value that lies on an edge into the neighbour.
    assert np.abs(histogram.counts - want).sum() < 100


def test_zeros_are_known() -> None:
    histogram = counted(ONE_SIDED)
    assert histogram.zeros == (ONE_SIDED == 0).sum()
    assert histogram.nonzero.sum() == (ONE_SIDED > 0).sum()
    assert histogram.nonzero.min() >= 0


def test_pieces_do_not_matter() -> None:
    assert np.array_equal(counted(NORMAL, 1).counts, counted(NORMAL, 100).counts)


def test_percentile() -> None:
    low, high = percentile_range(counted(NORMAL))
    want_low, want_high = np.percentile(NORMAL, (0.005, 99.995))
    assert (low, high) == pytest.approx((want_low, want_high), abs=0.02)


def test_percentile_cuts_a_rare_outlier() -> None:
    values = np.append(ONE_SIDED, np.float32(1000))
    low, high = percentile_range(counted(values))
    assert low == 0
    assert ONE_SIDED.max() * 0.9 < high < 6


def test_mse_is_as_good_as_a_search_that_quantises() -> None:
    for values in (NORMAL, ONE_SIDED, RANDOM.laplace(0, 1, 100_000).astype(np.float32)):
        ends = mse_range(counted(values))
        whole = (min(float(values.min()), 0.0), float(values.max()))
        best = min(
            quantisation_error(values, (whole[0] * a, whole[1] * b))
            for a in np.linspace(0.1, 1, 30)
            for b in np.linspace(0.1, 1, 30)
        )
        assert quantisation_error(values, ends) <= best * 1.05
        assert quantisation_error(values, ends) < quantisation_error(values, whole)


def test_mse_gives_an_outlier_up() -> None:
    histogram = Histogram(float(NORMAL.min()), 40)
    histogram.add(np.full(1, 40, np.float32))
    histogram.add(NORMAL)
    # One value in 200,000 is worth steps that are six times as wide; one in 10 million is not.
    assert mse_range(histogram)[1] > 20
    for _ in range(49):
        histogram.add(NORMAL)
    low, high = mse_range(histogram)
    assert high < 10
    assert low > -5


@pytest.mark.parametrize("values", [NORMAL, ONE_SIDED])
def test_entropy_cuts_a_rare_outlier_and_little_else(values: npt.NDArray[np.float32]) -> None:
    low, high = entropy_range(counted(np.append(values, np.float32(100))))
    assert 2 < high < 20
    assert low == pytest.approx(min(values.min(), 0), abs=3)


@pytest.mark.parametrize("choose", [percentile_range, entropy_range, mse_range])
def test_edge_cases(choose: object) -> None:
    assert callable(choose)
    assert choose(counted(np.zeros(10, np.float32))) == (0, 0)
    low, high = choose(counted(np.full(10, 3, np.float32)))
    assert low == 0
    assert 0 < high <= 3
    low, high = choose(counted(np.full(10, -3, np.float32)))
    assert -3 <= low < 0
    assert high == 0
