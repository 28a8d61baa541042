"""Times of the stages of a run: wall-clock and processor time, each second counted once."""

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
        wall: Wall-clock time.
        processor: Processor time of this process, on all CPUs, and of processes that it started and that have
            ended.
    """

    wall: float = 0.0
    processor: float = 0.0


@dataclass
class Clock:
    """Times of stages by name, in the order in which they first started.

    A stage inside another is not counted in the outer one, so that their sum is the total.
    """

    times: dict[str, Spent] = field(default_factory=dict)
    _inside: list[str] = field(default_factory=list)
    _since: tuple[float, float] = (0.0, 0.0)

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Count the time in this context as the stage ``name``."""
        self._charge()
        self.times.setdefault(name, Spent())
        self._inside.append(name)
        try:
            yield
        finally:
            self._charge()
            self._inside.pop()

    def _charge(self) -> None:
        """Add the time since the last change to the running stage."""
        now = time.perf_counter(), _processor_time()
        if self._inside:
            spent = self.times[self._inside[-1]]
            spent.wall += now[0] - self._since[0]
            spent.processor += now[1] - self._since[1]
        self._since = now


def _processor_time() -> float:
    return sum(os.times()[:4])  # the last one is elapsed time


_clock: ContextVar[Clock | None] = ContextVar("clock", default=None)


@contextmanager
def clock() -> Iterator[Clock]:
    """Measure the stages in this context, and yield their times. Nested calls yield the outer clock."""
    if around := _clock.get():
        yield around
    else:
        made = Clock()
        token = _clock.set(made)
        try:
            yield made
        finally:
            _clock.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Run a stage: if a clock is active, its time is counted, and the overall progress bar is updated.

    Args:
        name: For example ``distil``. A stage may run several times, and inside another one.
    """
    if around := _clock.get():
        with around.running(name), progress.part(name):
            yield
    else:
        yield
