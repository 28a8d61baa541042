"""Other processes beside a measurement are seen, and told of where they took its CPUs."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time

import psutil
import pytest

from imf_deploy.benchmark.conditions import OtherWork, busy_machine

SPIN = "import sys; sys.stdout.write('x'); sys.stdout.flush()\nwhile True: pass"


def test_a_busy_neighbour_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE) as neighbour:
        try:
            assert neighbour.stdout
            neighbour.stdout.read(1)
            used = psutil.Process(neighbour.pid).cpu_times
            before = used().user
            with OtherWork() as work:
                began = time.perf_counter()
                while used().user - before < 1:  # whatever else the machine has to do
                    time.sleep(0.05)
                wall = time.perf_counter() - began
        finally:
            neighbour.kill()  # or leaving the block waits for it for ever
    # The kernel counts in hundredths of a second.
    assert work.cpus >= 0.9 * 1 / wall


def test_own_and_idle_time_are_not_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    readings = iter([(100.0, 50.0, 7.0), (110.0, 65.0, 17.0)])
    monkeypatch.setattr(
        importlib.import_module("imf_deploy.benchmark.conditions"), "_times", lambda: next(readings)
    )
    with OtherWork() as work:
        pass
    assert work.cpus == pytest.approx((4 * 10 - 15 - 10) / 10)


@pytest.mark.parametrize(
    ("taken", "threads", "told"), [(0.15, 2, False), (0.3, 2, True), (1.05, 1, False), (1.9, 1, True)]
)
def test_work_on_spare_cpus_does_not_count(
    taken: float, threads: int, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    sentence = busy_machine(taken, threads)
    assert bool(sentence) == told
    if told:
        assert f"{taken:.1f} of its 2 CPUs" in sentence
        assert "imf-deploy bench" in sentence
