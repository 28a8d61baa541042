"""Progress bars with an estimate, on a terminal; plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from imf_deploy.processes import is_first
from imf_deploy.untrusted import visible


class _Remarks(Console):
    """A console whose loss stops no work."""

    def on_broken_pipe(self) -> None:
        """Go on where nobody reads the remarks any longer; rich would end the process."""


console = _Remarks(stderr=True, highlight=False)
"""Where progress and remarks go; standard output carries results alone."""


def say(message: str) -> None:
    """Print a remark, above any progress bar; ``message`` is plain text, not markup.

    Of several processes only the first speaks.
    """
    if is_first():
        with contextlib.suppress(OSError):  # a log on a full disk
            console.print(visible(message), markup=False, soft_wrap=True)


@contextlib.contextmanager
def track(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar for ``total`` units of work; yields the function that advances it.

    Without a terminal nothing is drawn, so that logs stay readable.
    """
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (console.is_terminal and is_first()),
    ) as progress:
        task = progress.add_task(title, total=total)
        yield lambda amount: progress.advance(task, amount)
