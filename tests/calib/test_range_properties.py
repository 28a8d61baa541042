"""Properties of calibrated ranges that hold for all activations."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imf_deploy.calib.threshold import Histogram, Range, entropy_range, mse_range, percentile_range

values = arrays(
    np.float32, st.integers(1, 300), elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
)


@pytest.mark.parametrize("method", [percentile_range, entropy_range, mse_range])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(activations=values, scale=st.sampled_from([1e-6, 1.0, 1e6]))
def test_a_range_holds_zero_and_lies_within_the_activations(
    method: Callable[[Histogram], Range], activations: np.ndarray, scale: float
) -> None:
    activations = (activations * np.float32(scale)).astype(np.float32)
    low, high = min(float(activations.min()), 0.0), max(float(activations.max()), 0.0)
    histogram = Histogram(low, high)
    histogram.add(activations)
    if histogram.limit:
        assert histogram.counts.sum() == activations.size
    found = method(histogram)
    assert np.isfinite(found).all()
    rounding = 1e-6 * histogram.limit
    assert low - rounding <= found[0] <= 0 <= found[1] <= high + rounding
