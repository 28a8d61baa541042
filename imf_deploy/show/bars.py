"""Messages on standard error and a progress bar with an estimate of the remaining time.

Bars are drawn only on a terminal; otherwise there are only lines, so that logs stay readable.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator

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

from imf_deploy import progress
from imf_deploy.processes import is_first
from imf_deploy.progress import Whole


class _Console(Console):
    """A console whose loss does not stop the work."""

    def on_broken_pipe(self) -> None:
        """Continue if the reader of the messages has exited; rich would end the process."""


console = _Console(stderr=True, highlight=False)
"""Output of progress and messages; standard output contains only results."""


class Messages(logging.Handler):
    """Prints each record as one line of plain text, above any progress bar.

    Args:
        change: Function that every line passes through.
    """

    def __init__(self, change: Callable[[str], str]) -> None:
        super().__init__()
        self._change = change

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; a log on a full disk does not stop the work."""
        with contextlib.suppress(OSError):
            console.print(self._change(record.getMessage()), markup=False, soft_wrap=True)


def install(change: Callable[[str], str] = lambda text: text) -> None:
    """Show messages and progress of this package on standard error.

    Args:
        change: Function that every line passes through; the command line uses it to name settings as options.
    """
    progress.log.handlers[:] = [Messages(change)]
    progress.log.setLevel(logging.INFO)
    progress.log.propagate = False
    progress.show_on(Bars())


class Bars:
    """Draws progress with rich; see :class:`imf_deploy.progress.Display`."""

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Draw one bar."""
        with Progress(
            *_columns(MofNCompleteColumn()), console=console, transient=True, disable=not _drawn()
        ) as drawn:
            task = drawn.add_task(title, total=total)
            yield lambda amount: drawn.advance(task, amount)

    @contextlib.contextmanager
    def whole(self, bar: Whole) -> Iterator[None]:
        """Draw the bar of a whole run."""
        drawn = _WholeProgress(
            *_columns(TaskProgressColumn()),
            console=console,
            transient=True,
            disable=not _drawn(),
            # Parts run faster or slower than expected, so only the last minutes count.
            speed_estimate_period=120,
        )
        drawn.bar = bar
        with drawn:
            drawn.add_task("", total=bar.total)
            yield


def _drawn() -> bool:
    return console.is_terminal and is_first()


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
