"""Numbers on synthetic latencies: no machine can make these tests fail by being slow."""

import json

import numpy as np
import pytest

from imf_deploy.benchmark.latency import Latency, ratio
from imf_deploy.errors import UsageError


def synthetic(
    seed: int, factor: float = 1.0, rounds: int = 30, drift: float = 0.0
) -> tuple[Latency, Latency]:
    """Two runners in the same rounds: skewed noise, outliers, noise of whole slices, shared drift."""
    generator = np.random.default_rng(seed)

    def slices(level: float) -> tuple[np.ndarray, ...]:
        found = []
        for index in range(rounds):
            base = 1e6 * level * (1 + drift * index / rounds) * generator.lognormal(0, 0.02)
            noise = generator.lognormal(0, 0.03, 20) * (1 + 5 * (generator.random(20) < 0.03))
            found.append((base * noise).astype(np.int64))
        return tuple(found)

    return Latency(slices(factor), 1), Latency(slices(1.0), 1)


def test_the_numbers_are_numpys() -> None:
    latency, _ = synthetic(0)
    samples = np.concatenate(latency.rounds) / 1e6
    expected = np.percentile(samples, [50, 90, 95, 99])
    np.testing.assert_allclose([latency.p50, latency.p90, latency.percentile(95), latency.p99], expected)
    np.testing.assert_allclose([latency.mean, latency.std], [samples.mean(), samples.std()])
    assert latency.variation == pytest.approx(samples.std() / samples.mean())
    assert latency.count == samples.size == 600


def test_no_outlier_is_left_out() -> None:
    latency = Latency((np.array([1_000_000] * 9 + [1_000_000_000]),), 1)
    assert latency.count == 10
    assert latency.mean == pytest.approx(100.9)
    assert latency.p50 == 1.0


def test_throughput_counts_images() -> None:
    assert Latency((np.array([2_000_000, 6_000_000]),), images=8).throughput == pytest.approx(2000)


def test_the_json_form_is_json_and_holds_the_medians_of_the_rounds() -> None:
    latency, _ = synthetic(0, rounds=6)
    content = json.loads(json.dumps(latency.to_dict()))
    assert content["round_p50_ms"] == [float(np.median(samples) / 1e6) for samples in latency.rounds]
    assert content["p99_ms"] == latency.p99


@pytest.mark.parametrize("rounds", [6, 12])
def test_few_rounds_give_no_narrower_promise(rounds: int) -> None:
    assert sum(not ratio(*synthetic(seed, rounds=rounds)).differs for seed in range(100)) >= 92


@pytest.mark.parametrize("drift", [0.0, 0.5])
def test_equal_runners_have_an_interval_around_one(drift: float) -> None:
    hits = sum(not ratio(*synthetic(seed, drift=drift)).differs for seed in range(100))
    assert 90 <= hits < 100  # 95 % are meant; an interval that always held 1 would be too wide


@pytest.mark.parametrize("drift", [0.0, 0.5])
def test_five_percent_are_found(drift: float) -> None:
    found = [ratio(*synthetic(seed, factor=1.05, drift=drift)) for seed in range(100)]
    assert sum(seen.low > 1 for seen in found) >= 99
    assert sum(seen.low <= 1.05 <= seen.high for seen in found) >= 90


def test_a_disturbed_round_changes_little() -> None:
    a, b = synthetic(3, factor=1.05)
    rounds = (*a.rounds[:-2], a.rounds[-2] * 10, a.rounds[-1] * 10)
    assert ratio(Latency(rounds, 1), b).value == pytest.approx(ratio(a, b).value, abs=0.01)


def test_the_value_is_inside_and_the_seed_decides() -> None:
    a, b = synthetic(1, factor=1.2)
    seen = ratio(a, b)
    assert seen.low <= seen.value <= seen.high
    assert ratio(a, b) == seen
    assert ratio(a, a).value == ratio(a, a).low == ratio(a, a).high == 1.0


def loaded(seed: int, factor: float = 1.0, loads: int = 10, block: int = 12) -> tuple[Latency, Latency]:
    """Two runners whose every load has a speed of its own: 2 % of spread, and one in five 8 % slower."""
    generator = np.random.default_rng(seed)

    def slices(level: float) -> tuple[np.ndarray, ...]:
        found = []
        for _ in range(loads):
            own = level * generator.lognormal(0, 0.02) * (1.08 if generator.random() < 0.2 else 1)
            for _ in range(block):
                found.append((1e6 * own * generator.lognormal(0, 0.02, 8)).astype(np.int64))
        return tuple(found)

    return Latency(slices(factor), 1, block), Latency(slices(1.0), 1, block)


def test_what_a_load_decides_does_not_count_as_a_difference() -> None:
    pairs = [loaded(seed) for seed in range(100)]
    assert sum(not ratio(*pair).differs for pair in pairs) >= 94
    # Rounds as if each were a load of its own: what the blocks are there to prevent.
    apart = [tuple(Latency(latency.rounds, 1) for latency in pair) for pair in pairs[:20]]
    assert sum(not ratio(a, b).differs for a, b in apart) < 14


def test_a_tenth_more_is_found_whatever_the_loads() -> None:
    assert sum(ratio(*loaded(seed, factor=1.1)).low > 1 for seed in range(100)) >= 98


def test_blocks_must_agree() -> None:
    a, b = loaded(0)
    with pytest.raises(UsageError, match="blocks of 12 and 6"):
        ratio(a, Latency(b.rounds, 1, 6))
    with pytest.raises(UsageError, match="6 or more blocks"):
        ratio(*loaded(0, loads=5))


@pytest.mark.parametrize(("first", "second"), [(5, 5), (6, 7)])
def test_too_few_or_unpaired_rounds_give_no_interval(first: int, second: int) -> None:
    with pytest.raises(UsageError, match="rounds"):
        ratio(synthetic(0, rounds=first)[0], synthetic(0, rounds=second)[0])
