"""Time several runners side by side, in rounds, so that a drifting machine favours none."""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from imf_deploy.benchmark.energy import EnergyMeter
from imf_deploy.benchmark.latency import Latency, Nanoseconds
from imf_deploy.benchmark.load import Loads
from imf_deploy.runners.base import Batch, Runner

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
