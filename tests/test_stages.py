from __future__ import annotations

import time

import pytest

from imf_deploy import stages
from imf_deploy.progress import Whole, part, track, whole
from imf_deploy.stages import clock, stage


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time on both clocks of :mod:`imf_deploy.stages`; processor time runs at double speed."""
    now = [100.0]
    monkeypatch.setattr(stages.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(stages, "_processor_time", lambda: 2 * now[0])
    return now


def test_each_second_is_counted_once(tick: list[float]) -> None:
    with clock() as times:
        tick[0] += 1000  # of no stage
        with stage("distil"):
            tick[0] += 5
            with stage("refit"):
                tick[0] += 3
            tick[0] += 1
        with pytest.raises(KeyError), stage("refit"):
            tick[0] += 2
            raise KeyError
        with stage("report"):
            with clock() as same, stage("pages"):
                tick[0] += 7
            assert same is times
    tick[0] += 1000
    found = {name: (spent.wall, spent.processor) for name, spent in times.times.items()}
    assert found == {"distil": (6, 12), "refit": (5, 10), "report": (0, 0), "pages": (7, 14)}


def test_without_a_clock_nothing_is_measured() -> None:
    with stage("distil"):
        pass
    with clock() as times:
        pass
    assert times.times == {}


def test_processor_time_is_that_of_this_process() -> None:
    with clock() as times, stage("work"):
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
    assert times.times["work"].processor >= 0.03  # the kernel counts in hundredths


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moment = [50.0]
    monkeypatch.setattr("imf_deploy.progress.time.monotonic", lambda: moment[0])
    return moment


def test_one_bar_for_the_whole(now: list[float]) -> None:
    with whole({"distil": 60, "refit": 20, "files": 30, "report": 10}) as bar:
        assert (bar.total, bar.position()) == (120, 0)
        with part("distil"):
            with track("Evaluating", 100) as other:  # not what the part is about
                other(100)
                assert (bar.title, bar.position()) == ("Distil", 0)
            with track("Distilling", 10, leads=True) as advance:
                advance(4)
                with track("Evaluating", 100) as other:
                    other(100)
                assert (bar.title, bar.position()) == ("Distilling", 24)
                advance(6)
            with part("refit"):
                assert bar.position() == 60
                now[0] += 10  # nobody reports: the clock counts
                assert bar.position() == 70
                now[0] += 1000
                assert bar.position() == pytest.approx(60 + 0.95 * 20)
            assert bar.position() == 80
        with part("not expected"), track("Evaluating", 2, leads=True) as advance:
            advance(1)
            assert bar.position() == 80
        with part("files"), track("Exporting", 3, leads=True) as advance:
            advance(1)
            assert bar.position() == 90
        with pytest.raises(KeyError), part("report"):
            raise KeyError
        assert bar.position() == 110


def test_the_bar_never_falls(now: list[float]) -> None:
    bar = Whole({"files": 100})
    with bar.within("files"):
        now[0] += 80
        assert bar.position() == 80
        advance = bar.leading("Exporting", 10)
        advance(1)
        assert bar.position() == 80
        advance(8)
        assert bar.position() == 90
