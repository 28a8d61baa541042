"""Reload runners during a measurement, because two loads of one file differ."""

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

from imf_deploy.runners.base import Batch, Runner

SLOW_LOAD_S = 2.0
"""Runners that take longer to load and to run once, for example with ``torch.compile``, are loaded once."""


class Loads:
    """Runners that are open at the same time, and can be reloaded together.

    Attributes:
        infer: The function that runs each one, by name; available after the first :meth:`reload`.
        slow: Names of those that took more than ``SLOW_LOAD_S`` and are not reloaded.

    Args:
        runners: Names and runners; none is open yet.
        batch: Input of the first inference, which is part of loading: many runtimes only compile then.
    """

    def __init__(self, runners: Mapping[str, Runner], batch: Batch) -> None:
        self.infer: dict[str, Callable[[Batch], Any]] = {}
        self.slow: set[str] = set()
        self._runners = runners
        self._batch = batch
        self._kept, self._loaded = contextlib.ExitStack(), contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Enter without opening anything."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every runner."""
        with self._kept, self._loaded:
            pass

    def reload(self, index: int) -> list[str]:
        """Close all runners that are not slow, open them again, and run each once; return what was loaded.

        Args:
            index: Number of this load. The first runner to be loaded gets the best place in memory, so each
                name is first in turn.
        """
        self._loaded.close()
        names = [name for name in self._runners if name not in self.slow]
        start = index % max(len(names), 1)
        order = [*names[start:], *names[:start]]
        for name in order:
            began = time.perf_counter()
            with contextlib.ExitStack() as opening:
                self.infer[name] = opening.enter_context(self._runners[name]).infer
                self.infer[name](self._batch)
                slow = time.perf_counter() - began > SLOW_LOAD_S
                (self._kept if slow else self._loaded).enter_context(opening.pop_all())
            if slow:
                self.slow.add(name)
        return order
