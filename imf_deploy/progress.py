"""Messages and progress of long work.

Messages go to the logger ``imf_deploy``, with the level INFO, or WARNING if they should not be overlooked.
Progress goes to a display, if one is installed. The command line shows both with :mod:`imf_deploy.show.bars`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Protocol

from imf_deploy.errors import visible
from imf_deploy.processes import is_first

log = logging.getLogger("imf_deploy")


def say(message: str, level: int = logging.INFO) -> None:
    """Log a message; if there are several processes, only the first does.

    Args:
        message: One sentence without a full stop.
        level: Level of the message.
    """
    if is_first():
        log.log(level, "%s", visible(message))


class Display(Protocol):
    """Shows the progress of work."""

    def bar(self, title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show ``total`` units of work; returns the function that reports finished units."""

    def whole(self, bar: Whole) -> AbstractContextManager[None]:
        """Show a whole run; ``bar`` has its position at any time."""


_display: list[Display] = []


def show_on(display: Display | None) -> None:
    """Show progress on a display from now on; ``None``, the default, shows none."""
    _display[:] = [display] if display else []


@contextlib.contextmanager
def track(title: str, total: int, leads: bool = False) -> Iterator[Callable[[int], None]]:
    """Announce ``total`` units of work; yields the function that reports finished units.

    Args:
        title: Title of the bar.
        total: Units of work.
        leads: Whether the units belong to the running part of :func:`whole`. In that case there is one bar,
            which they move; other tracks show nothing.
    """
    if bar := _whole.get():
        yield bar.leading(title, total) if leads else lambda _amount: None
    elif _display:
        with _display[0].bar(title, total) as advance:
            yield advance
    else:
        yield lambda _amount: None


SURE = 0.95
"""Fraction up to which a part that reports no progress moves with time."""


class Whole:
    """The progress of a run, in seconds of its expected duration.

    Args:
        parts: Expected seconds of each part, in the order in which they run; a part may run within the
            preceding one.
    """

    def __init__(self, parts: Mapping[str, float]) -> None:
        self.parts = dict(parts)
        self.total = sum(parts.values())
        self.title = ""
        self._reached = 0.0
        self._part = ""
        self._entered = 0.0
        self._reported: float | None = None

    def position(self) -> float:
        """Return the finished seconds, which never decrease."""
        span = self.parts.get(self._part, 0.0)
        share = self._reported
        if share is None:
            share = min((time.monotonic() - self._entered) / span, SURE) if span else 0.0
        self._reached = max(self._reached, self._start(self._part) + share * span)
        return self._reached

    def _start(self, part: str) -> float:
        names = list(self.parts)
        return sum(self.parts[name] for name in names[: names.index(part)]) if part in self.parts else 0.0

    @contextlib.contextmanager
    def within(self, part: str) -> Iterator[None]:
        """Run a part; an unexpected one belongs to the part around it."""
        if part not in self.parts:
            yield
            return
        before = self._part, self._entered, self._reported
        self._part, self._entered, self._reported = part, time.monotonic(), None
        self.title = part.capitalize()
        try:
            yield
            self._reported = 1.0
            self.position()
        finally:
            self._part, self._entered, self._reported = before

    def leading(self, title: str, total: int) -> Callable[[int], None]:
        """Return the function that reports units of work of the running part."""
        self.title = title
        done = 0

        def advance(amount: int) -> None:
            nonlocal done
            done += amount
            self._reported = min(done / total, 1.0) if total else 1.0

        return advance


_whole: ContextVar[Whole | None] = ContextVar("whole", default=None)


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """Run a part of :func:`whole`; outside it, this has no effect."""
    bar = _whole.get()
    with bar.within(name) if bar else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def whole(parts: Mapping[str, float]) -> Iterator[Whole]:
    """Show one bar for a whole run; :func:`part` and :func:`track` move it.

    Args:
        parts: Expected seconds of each part; see :class:`Whole`.
    """
    bar = Whole(parts)
    token = _whole.set(bar)
    try:
        with _display[0].whole(bar) if _display else contextlib.nullcontext():
            yield bar
    finally:
        _whole.reset(token)
