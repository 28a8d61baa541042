"""How long each stage of a run takes: wall-clock and processor time, each second counted once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from imf_deploy import progress


@dataclass
class Spent:
    """Time in seconds.

    Attributes:
        wall: By the clock on the wall.
        processor: Of this process, on all CPUs, and of processes that it started and that have ended.
    """

    wall: float = 0.0
    processor: float = 0.0


@dataclass
class Clock:
    """Times of stages by name, in the order in which they first began.

    A stage within another one is not counted in the outer one, so that all of them add up to the whole.
    """

    times: dict[str, Spent] = field(default_factory=dict)
    _inside: list[str] = field(default_factory=list)
    _since: tuple[float, float] = (0.0, 0.0)

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Count what happens within as the stage ``name``."""
        self._charge()
        self.times.setdefault(name, Spent())
        self._inside.append(name)
        try:
            yield
        finally:
            self._charge()
            self._inside.pop()

    def _charge(self) -> None:
        """Give the time since the last change to the stage that is running."""
        now = time.perf_counter(), _processor_time()
        if self._inside:
            spent = self.times[self._inside[-1]]
            spent.wall += now[0] - self._since[0]
            spent.processor += now[1] - self._since[1]
        self._since = now


def _processor_time() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


_clock: ContextVar[Clock | None] = ContextVar("clock", default=None)


@contextmanager
def clock() -> Iterator[Clock]:
    """Measure the stages that run within; yields their times. Within another one, it is that one."""
    if around := _clock.get():
        yield around
        return
    made = Clock()
    token = _clock.set(made)
    try:
        yield made
    finally:
        _clock.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Run a stage, where somebody measures: its time is counted, and the bar for the whole knows of it.

    Args:
        name: Such as ``distil``. A stage may run several times, and within another one.
    """
    running = _clock.get()
    if running is None:
        yield
        return
    with running.running(name), progress.part(name):
        yield
