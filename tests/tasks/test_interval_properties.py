"""Properties of intervals that hold for all counts."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from imf_deploy.tasks.classification import wilson_interval
from imf_deploy.tasks.paired import Paired

counts = st.integers(0, 1000)
QUICK = settings(max_examples=60, deadline=None, derandomize=True)


@QUICK
@given(correct=counts, wrong=st.integers(1, 1000), z=st.floats(0.1, 4))
def test_the_wilson_interval_contains_the_accuracy_and_narrows(correct: int, wrong: int, z: float) -> None:
    images = correct + wrong
    accuracy = correct / images
    low, high = wilson_interval(accuracy, images, z)
    assert 0 <= low <= accuracy + 1e-12
    assert accuracy - 1e-12 <= high <= 1
    # The accuracies at the ends are z standard errors away from what was seen.
    for end in (end for end in (low, high) if 1e-6 < end < 1 - 1e-6):
        assert math.isclose(
            abs(accuracy - end), z * math.sqrt(end * (1 - end) / images), rel_tol=1e-6, abs_tol=1e-9
        )
    narrow = wilson_interval(accuracy, 4 * images, z)
    assert narrow[1] - narrow[0] < high - low
    mirrored = wilson_interval(1 - accuracy, images, z)
    assert math.isclose(mirrored[0], 1 - high, abs_tol=1e-12)


@QUICK
@given(same=st.integers(1, 1000), gained=counts, lost=counts)
def test_files_compared_the_other_way_round_differ_by_the_sign(same: int, gained: int, lost: int) -> None:
    images = same + gained + lost
    there, back = Paired(images, gained, lost), Paired(images, lost, gained)
    low, high = there.interval
    assert -1 <= low <= high <= 1
    assert low <= there.difference * images / (images + 2) <= high
    assert there.difference == -back.difference
    assert (low, high) == (-back.interval[1], -back.interval[0])
    assert there.p_value == back.p_value
    assert 0 < there.p_value <= 1
    if gained == lost:
        assert there.p_value == 1
