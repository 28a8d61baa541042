"""Time several runners side by side, in rounds, so that a drifting machine favours none."""

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from imf_deploy.benchmark.conditions import EnergyMeter
from imf_deploy.benchmark.latency import Latency, Nanoseconds
from imf_deploy.runners.base import Batch, Runner

SLOW_LOAD_S = 2.0
"""Runners that take longer to load and to run once, for example with ``torch.compile``, are loaded once."""


class Loads(contextlib.AbstractContextManager["Loads"]):
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


SETTLE_S = 0.01
"""Pause in seconds before a slice, in which the thread pool of the previous runner stops spinning."""
LEAD_IN_S = 0.005
"""Time in seconds of untimed inferences at the start of a slice, which wake threads, clocks and caches."""

MOST_ROUNDS = 120
"""Disturbances by a busy neighbour last tens of milliseconds, so short slices share them."""


def measure(
    runners: Mapping[str, Runner],
    batch: Batch,
    *,
    duration_s: float = 3.0,
    iterations: int = 10,
    warmup_s: float = 0.1,
    rounds: int | None = None,
    loads: int = 20,
    meter: EnergyMeter | None = None,
) -> dict[str, Latency]:
    """Measure the latency of runners on one batch.

    The rounds are divided into blocks. At the start of each block all runners are reloaded and warmed up,
    because two loads of one file differ: its weights are at other addresses, and its threads run on other
    cores. Each round gives every runner one short slice, in the order of :func:`slice_orders`; only ``infer``
    is timed, and Python's garbage collector is off meanwhile.

    Args:
        runners: Names and runners, each runner a separate object; none is open yet.
        batch: Input of every inference, ``float32 [N, C, H, W]``.
        duration_s: Minimum time in seconds that each runner is measured for, over all rounds.
        iterations: Minimum number of inferences of each runner, over all rounds.
        warmup_s: Minimum time in seconds of a runner's warm-up after each load; at least one inference is
            run.
        rounds: Number of rounds, rounded up to a multiple of ``loads``; by default ``MOST_ROUNDS``, or fewer
            if one inference is longer than ``duration_s`` divided by that.
        loads: Number of loads of each runner; a confidence interval needs six. Runners that take more than
            ``SLOW_LOAD_S`` (``load.py``) are loaded once. With 1, every round is a block.
        meter: Reads the energy of each slice.

    Returns:
        The latencies by name, in the order of ``runners``.

    Raises:
        UsageError: a setting is out of range.
        ImfDeployError: a runner cannot be loaded or fails.
    """
    taken: dict[str, list[Nanoseconds]] = {name: [] for name in runners}
    energy = dict.fromkeys(runners, 0.0)
    settle_s = SETTLE_S if len(runners) > 1 else 0.0
    with Loads(runners, batch) as opened:
        slowest_s = _load(opened, 0, batch, warmup_s)
        if rounds is None:
            rounds = int(min(MOST_ROUNDS, max(duration_s / slowest_s, 1)))
        block = math.ceil(rounds / loads) if loads > 1 else 1
        rounds = loads * block if loads > 1 else rounds
        span_s, least = duration_s / rounds, math.ceil(iterations / rounds)
        for index, order in enumerate(slice_orders(tuple(runners), rounds)):
            if index and loads > 1 and index % block == 0:
                _load(opened, index // block, batch, warmup_s)
            for name in order:
                time.sleep(settle_s)
                _slice(opened.infer[name], batch, LEAD_IN_S, 1)
                before = meter.read() if meter else ()
                taken[name].append(_slice(opened.infer[name], batch, span_s, least))
                if meter:
                    energy[name] += meter.joules(before, meter.read())
    return {
        name: Latency(tuple(slices), len(batch), block, energy[name] if meter else None)
        for name, slices in taken.items()
    }


def _load(opened: Loads, index: int, batch: Batch, warmup_s: float) -> float:
    """Load runners and warm them up; return the longest median latency of a warm-up in seconds."""
    medians = [
        float(np.median(_slice(opened.infer[name], batch, warmup_s, 1))) for name in opened.reload(index)
    ]
    return max(medians, default=1.0) / 1e9


def slice_orders(names: Sequence[str], rounds: int) -> Iterator[tuple[str, ...]]:
    """Yield the order of the slices of each round: A B, B A, B A, A B for two names.

    Every second round runs in reverse order, and every pair of rounds starts one name later. Over each ``2 *
    len(names)`` rounds every name is in every position equally often, and a drift that is even in time
    affects all names equally.
    """
    for index in range(rounds):
        start = index // 2 % max(len(names), 1)
        order = (*names[start:], *names[:start])
        yield order[::-1] if index % 2 else order


def _slice(infer: Callable[[Batch], Any], batch: Batch, seconds: float, iterations: int) -> Nanoseconds:
    """Run one slice, at least ``seconds`` and ``iterations`` long; return each duration in ns."""
    clock = time.perf_counter_ns
    samples: list[int] = []
    keep = samples.append
    collecting = gc.isenabled()
    gc.disable()
    try:
        end = clock() + int(seconds * 1e9)
        while True:
            start = clock()
            infer(batch)
            stop = clock()
            keep(stop - start)
            if stop >= end and len(samples) >= iterations:
                break
    finally:
        if collecting:
            gc.enable()
    return np.array(samples, dtype=np.int64)
