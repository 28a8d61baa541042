"""Remarks and progress of long work.

Remarks go to the logger ``imf_deploy``, with the level INFO, or WARNING where they should not be overlooked.
Progress
goes to a display, where one is installed. The command line shows both with :mod:`imf_deploy.show.bars`.
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
    """Log a remark; of several processes only the first speaks.

    Args:
        message: One sentence without a full stop.
        level: Of the record.
    """
    if is_first():
        log.log(level, "%s", visible(message))


class Display(Protocol):
    """Shows how far work has come."""

    def bar(self, title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show ``total`` units of work; gives the function that reports units that are done."""

    def whole(self, bar: Whole) -> AbstractContextManager[None]:
        """Show a whole run, whose position is that of ``bar`` at any time."""


_display: list[Display] = []


def show_on(display: Display | None) -> None:
    """Show progress on a display from now on; ``None`` shows it nowhere, which is the default."""
    _display[:] = [display] if display else []


@contextlib.contextmanager
def track(title: str, total: int, leads: bool = False) -> Iterator[Callable[[int], None]]:
    """Report ``total`` units of work; yields the function that reports some of them as done.

    Args:
        title: What is done.
        total: Units of work.
        leads: Whether the units are those of the part of :func:`whole` that is running. There is one bar
            there, which they move; what does not lead shows nothing.
    """
    if bar := _whole.get():
        yield bar.leading(title, total) if leads else lambda _amount: None
    elif _display:
        with _display[0].bar(title, total) as advance:
            yield advance
    else:
        yield lambda _amount: None


SURE = 0.95
"""A part whose progress nobody reports moves with the clock, up to here."""


class Whole:
    """How far a run has come, in seconds of those that were expected.

    Args:
        parts: Expected seconds of each part, in the order in which they run; a part may run within the one
            before it.
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
        """Return the seconds that are done; it never falls."""
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
        """Run a part; one that is not expected belongs to the part around it."""
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
        """Return what reports units of work of the part that is running."""
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
    """Run a part of :func:`whole`; elsewhere it changes nothing."""
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
