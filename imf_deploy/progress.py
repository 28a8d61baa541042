"""One progress bar with an estimate, on a terminal; plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from imf_deploy.errors import visible
from imf_deploy.processes import is_first


class _Remarks(Console):
    """A console that may be lost without stopping work."""

    def on_broken_pipe(self) -> None:
        """Continue if nobody reads the messages any longer; rich would end the process."""


console = _Remarks(stderr=True, highlight=False)
"""Output of progress and messages; standard output contains only results."""


translate: list[Callable[[str], str]] = []
"""Functions that messages pass through; the command line uses them to name settings as its options."""


def say(message: str) -> None:
    """Print a message, above any progress bar; ``message`` is plain text, not markup.

    If there are several processes, only the first prints.
    """
    if is_first():
        for change in translate:
            message = change(message)
        with contextlib.suppress(OSError):  # a log on a full disk
            console.print(visible(message), markup=False, soft_wrap=True)


@contextlib.contextmanager
def track(title: str, total: int, leads: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a bar for ``total`` units of work; yields the function that advances it.

    Without a terminal nothing is drawn, so that logs stay readable.

    Args:
        title: Title of the bar.
        total: Units of work.
        leads: Whether the units belong to the running part of :func:`whole`. In that case there is one bar,
            which they move; other tracks show nothing.
    """
    if bar := _whole.get():
        yield bar.leading(title, total) if leads else lambda _amount: None
        return
    with Progress(
        *_columns(MofNCompleteColumn()),
        console=console,
        transient=True,
        disable=not _drawn(),
    ) as progress:
        task = progress.add_task(title, total=total)
        yield lambda amount: progress.advance(task, amount)


def _drawn() -> bool:
    return console.is_terminal and is_first()


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


class _WholeProgress(Progress):
    """A bar that moves whenever it is drawn."""

    bar: Whole

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            self.update(task.id, completed=self.bar.position(), description=self.bar.title)
        yield from super().get_renderables()


def _columns(done: ProgressColumn) -> list[ProgressColumn]:
    """Return the columns of a bar; ``done`` shows how much of it is done."""
    return [
        TextColumn("{task.description}"),
        BarColumn(),
        done,
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    ]


@contextlib.contextmanager
def whole(parts: Mapping[str, float]) -> Iterator[Whole]:
    """Show one bar for a whole run; :func:`part` and :func:`track` move it.

    Args:
        parts: Expected seconds of each part; see :class:`Whole`.
    """
    bar = Whole(parts)
    progress = _WholeProgress(
        *_columns(TaskProgressColumn()),
        console=console,
        transient=True,
        disable=not _drawn(),
        # Parts run at another speed than expected, so only the last minutes count.
        speed_estimate_period=120,
    )
    progress.bar = bar
    token = _whole.set(bar)
    try:
        with progress:
            progress.add_task("", total=bar.total)
            yield bar
    finally:
        _whole.reset(token)
