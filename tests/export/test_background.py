"""Work that calls back from C++ ends before an interrupt is raised."""

from __future__ import annotations

import contextvars
import os
import signal
import threading

import pytest
import torch

from imf_deploy.export.background import run_in_background


@pytest.fixture(autouse=True)
def _interrupts() -> None:
    # Whoever runs the tests in the background ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_the_caller_s_context_is_there() -> None:
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(3)
    seen: list[tuple[int, bool]] = []
    run_in_background(
        lambda: seen.append((variable.get(), threading.current_thread() is threading.main_thread()))
    )
    assert seen == [(3, False)]


def test_an_error_is_raised_with_its_origin() -> None:
    def work() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside") as caught:
        run_in_background(work)
    assert any(entry.name == "work" for entry in caught.traceback)


@pytest.mark.parametrize("signals", [1, 3])
def test_an_interrupt_waits_for_the_work_and_asks_it_to_end(signals: int) -> None:
    cancelled, ended = threading.Event(), []

    def work() -> None:
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGINT)
            assert cancelled.wait(10)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        run_in_background(work, cancelled)
    assert ended == [True]


def test_an_interrupt_wins_over_what_the_work_then_raises() -> None:
    cancelled = threading.Event()

    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert cancelled.wait(10)
        raise ValueError("cancelled")

    with pytest.raises(KeyboardInterrupt):
        run_in_background(work, cancelled)


def test_it_runs_on_the_caller_s_cuda_device(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    run_in_background(lambda: None)
    assert chosen == [2]
