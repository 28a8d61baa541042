"""The harness: its order, its minima, its own cost, and a slow-down that it must find."""

import gc
import importlib
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest

from imf_deploy.benchmark.conditions import EnergyMeter, find_energy_meter
from imf_deploy.benchmark.latency import Latency, ratio
from imf_deploy.benchmark.measure import measure, slice_orders
from imf_deploy.errors import ImfDeployError

BATCH = np.zeros((2, 3, 4, 4), np.float32)

TICK_NS = 1000


class Fake:
    """A runner whose inference takes ``burn_ns`` and, with ``noise``, a random twentieth more."""

    name = "fake"

    def __init__(
        self,
        label: str = "",
        log: list[str] | None = None,
        burn_ns: int = 0,
        noise: np.random.Generator | None = None,
    ) -> None:
        self.noise = noise
        self.label, self.log, self.burn_ns = label, log if log is not None else [], burn_ns

    def __enter__(self) -> Self:
        self.log.append(f"+{self.label}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.log.append(f"-{self.label}")

    def infer(self, batch: np.ndarray) -> np.ndarray:
        self.log.append(self.label)
        Clock.now += self.burn_ns
        if self.noise:
            Clock.now += int(self.burn_ns * self.noise.exponential(0.05))
        return batch


class Clock:
    """Time in which reading it takes a microsecond, and a fake inference as long as it says."""

    now = 0

    @classmethod
    def perf_counter(cls) -> float:
        return cls.perf_counter_ns() / 1e9

    @classmethod
    def perf_counter_ns(cls) -> int:
        cls.now += TICK_NS
        return cls.now

    @classmethod
    def sleep(cls, seconds: float) -> None:
        cls.now += int(seconds * 1e9)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses: what is measured here has no threads of its own."""
    module = importlib.import_module("imf_deploy.benchmark.measure")
    monkeypatch.setattr(module, "time", Clock)
    monkeypatch.setattr(module, "SETTLE_S", 0.0)
    monkeypatch.setattr(module, "LEAD_IN_S", 0.0)


def test_slices_alternate_and_all_runners_are_open_meanwhile() -> None:
    log: list[str] = []
    runners = {name: Fake(name, log) for name in "ab"}
    found = measure(runners, BATCH, duration_s=0, iterations=8, warmup_s=0, rounds=4, loads=1)
    loaded_and_warm, lead_in_and_two = "+aa+bbab", lambda name: name * 3
    assert "".join(log) == loaded_and_warm + "".join(map(lead_in_and_two, "abbabaab")) + "-b-a"
    assert [[len(r) for r in latency.rounds] for latency in found.values()] == [[2] * 4, [2] * 4]
    assert found["a"].images == 2
    assert list(found) == ["a", "b"]


def test_each_block_loads_everything_anew_and_each_name_is_loaded_first_in_turn() -> None:
    log: list[str] = []
    runners = {name: Fake(name, log) for name in "ab"}
    found = measure(runners, BATCH, duration_s=0, iterations=1, warmup_s=0, rounds=4, loads=2)
    slices = "".join(name * 2 for name in "abba"), "".join(name * 2 for name in "baab")
    assert "".join(log) == f"+aa+bbab{slices[0]}-b-a" + f"+bb+aaba{slices[1]}-a-b"
    assert {latency.block for latency in found.values()} == {2}
    assert found["a"].to_dict()["rounds_per_load"] == 2


def test_what_loads_slowly_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("imf_deploy.benchmark.measure"), "SLOW_LOAD_S", 0.0)
    log: list[str] = []
    runners = {name: Fake(name, log) for name in "ab"}
    measure(runners, BATCH, duration_s=0, iterations=1, warmup_s=0, rounds=3, loads=3)
    assert [log.count(what) for what in ("+a", "+b", "-b", "-a")] == [1, 1, 1, 1]
    assert log[-2:] == ["-b", "-a"]


@pytest.mark.parametrize(("rounds", "loads", "expected"), [(4, 3, 6), (5, 5, 5), (2, 4, 4), (3, 1, 3)])
def test_rounds_are_a_multiple_of_the_loads(rounds: int, loads: int, expected: int) -> None:
    found = measure({"a": Fake()}, BATCH, duration_s=0, iterations=1, warmup_s=0, rounds=rounds, loads=loads)
    assert len(found["a"].rounds) == expected


def test_long_inferences_mean_fewer_rounds() -> None:
    runners = {"long": Fake(burn_ns=5_000_000), "short": Fake()}
    found = measure(runners, BATCH, duration_s=0.05, iterations=1, warmup_s=0, loads=6)
    assert 6 <= len(found["short"].rounds) <= 12


def test_the_energy_of_the_slices_alone_is_counted(tmp_path: Path) -> None:
    zone = tmp_path / "zone"
    zone.mkdir()
    for name, value in (("name", "package-0"), ("energy_uj", "0"), ("max_energy_range_uj", "999999999")):
        (zone / name).write_text(value)

    class Burner(Fake):
        def infer(self, batch: np.ndarray) -> np.ndarray:
            counter = zone / "energy_uj"
            counter.write_text(str(int(counter.read_text()) + 1000))
            return batch

    meter = find_energy_meter(tmp_path)
    assert isinstance(meter, EnergyMeter)
    runners = {"a": Burner(), "b": Fake()}
    found = measure(runners, BATCH, duration_s=0, iterations=8, warmup_s=0, rounds=4, loads=2, meter=meter)
    assert found["a"].energy_j == pytest.approx(0.001 * found["a"].count)
    assert found["a"].to_dict()["joules_per_inference"] == pytest.approx(0.001)
    assert found["b"].energy_j == 0


@pytest.mark.parametrize("names", ["a", "ab", "abc", "abcde"])
def test_every_name_takes_every_place_equally_often_and_drift_cancels(names: str) -> None:
    rounds = 2 * len(names)
    orders = list(slice_orders(names, rounds))
    places = Counter((name, place) for order in orders for place, name in enumerate(order))
    assert set(places.values()) == {2}
    when = {name: sum(o.index(name) + i * len(names) for i, o in enumerate(orders)) for name in names}
    assert len(set(when.values())) == 1


def test_both_minima_hold() -> None:
    settings: dict[str, Any] = {"iterations": 7, "warmup_s": 0, "rounds": 3, "loads": 3}
    found = measure({"a": Fake(burn_ns=100_000)}, BATCH, duration_s=0.06, **settings)["a"]
    assert all(samples.sum() <= 60e6 or len(samples) >= 3 for samples in found.rounds)
    assert found.count >= 7
    few = measure({"a": Fake(burn_ns=1000)}, BATCH, duration_s=0, **settings)["a"]
    assert [len(samples) for samples in few.rounds] == [3, 3, 3]


def test_the_time_is_that_of_infer_alone() -> None:
    for burn_ns in (0, 300_000):
        runners = {"a": Fake(burn_ns=burn_ns)}
        found = measure(runners, BATCH, duration_s=0.05, iterations=10, warmup_s=0, rounds=2)["a"]
        # The clock is read once before and once after, and nothing else is done in between.
        assert found.count >= 10
        assert {*np.concatenate(found.rounds).tolist()} == {burn_ns + TICK_NS}


@pytest.mark.parametrize("slower", [1.05, 1.2])
def test_a_planted_slow_down_is_found(slower: float) -> None:
    noise = np.random.default_rng(0)
    times = {"base": 400_000, "slow": int(400_000 * slower)}
    runners = {name: Fake(burn_ns=burn_ns, noise=noise) for name, burn_ns in times.items()}
    found = measure(runners, BATCH, duration_s=0.2, iterations=90, warmup_s=0, rounds=10)
    seen = ratio(found["slow"], found["base"])
    assert seen.low > 1
    assert seen.differs


def test_the_collector_rests_and_comes_back() -> None:
    states: list[bool] = []

    class Watch(Fake):
        def infer(self, batch: np.ndarray) -> np.ndarray:
            states.append(gc.isenabled())
            return batch

    measure({"a": Watch()}, BATCH, duration_s=0, iterations=5, warmup_s=0, rounds=1, loads=1)
    # The first inference belongs to the load.
    assert len(states) > 5
    assert not any(states[1:])
    assert gc.isenabled()


def test_a_runner_that_fails_closes_the_others_and_brings_the_collector_back() -> None:
    log: list[str] = []

    class Bad(Fake):
        def infer(self, batch: np.ndarray) -> np.ndarray:
            raise ImfDeployError("no")

    with pytest.raises(ImfDeployError):
        measure({"a": Fake("a", log), "b": Bad("b", log)}, BATCH, duration_s=0, iterations=1, warmup_s=0)
    assert log[-2:] == ["-b", "-a"]
    assert gc.isenabled()


def test_nothing_to_measure_is_nothing_measured() -> None:
    found: dict[str, Latency] = measure({}, BATCH, duration_s=0, iterations=1, rounds=1)
    assert found == {}
