"""Time several runners side by side, in rounds, so that a drifting machine favours none."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from imf_deploy.bench.latency import Latency, Nanoseconds
from imf_deploy.errors import UsageError
from imf_deploy.runners.base import Batch, Runner

SETTLE_S = 0.05
"""Pause before a slice, in which the thread pool of the runner before it stops spinning."""
LEAD_IN_S = 0.01
"""Untimed inferences at the start of a slice, which bring threads, clocks and caches back."""


def measure(
    runners: Mapping[str, Runner],
    batch: Batch,
    *,
    duration_s: float = 3.0,
    iterations: int = 10,
    warmup_s: float = 0.2,
    rounds: int = 30,
) -> dict[str, Latency]:
    """Measure the latency of runners on one batch.

    All runners are loaded first and warmed up one after the other. Then each round gives every
    runner one short slice, in the order of :func:`slice_orders`; only ``infer`` is timed, and
    Python's garbage collector rests meanwhile.

    Args:
        runners: Names and runners, each runner an object of its own; none is open yet.
        batch: Input of every inference, ``float32 [N, C, H, W]``.
        duration_s: Least time that each runner is measured for, in seconds, over all rounds.
        iterations: Least number of inferences of each runner, over all rounds.
        warmup_s: Least time of each runner's warm-up, in seconds; one inference always happens.
        rounds: Number of rounds; a confidence interval needs six.

    Returns:
        The latencies by name, in the order of ``runners``.

    Raises:
        UsageError: a setting is out of range.
        ImfDeployError: a runner cannot be loaded or fails.
    """
    check_settings(duration_s, iterations, warmup_s, rounds)
    taken: dict[str, list[Nanoseconds]] = {name: [] for name in runners}
    settle_s = SETTLE_S if len(runners) > 1 else 0.0
    with contextlib.ExitStack() as stack:
        infer = {name: stack.enter_context(runner).infer for name, runner in runners.items()}
        for run in infer.values():
            _slice(run, batch, warmup_s, 1)
        for order in slice_orders(tuple(runners), rounds):
            for name in order:
                time.sleep(settle_s)
                _slice(infer[name], batch, LEAD_IN_S, 1)
                taken[name].append(
                    _slice(infer[name], batch, duration_s / rounds, math.ceil(iterations / rounds))
                )
    return {name: Latency(tuple(slices), images=len(batch)) for name, slices in taken.items()}


def slice_orders(names: Sequence[str], rounds: int) -> Iterator[tuple[str, ...]]:
    """Yield the order of the slices of each round: A B, B A, B A, A B for two names.

    Every second round runs backwards, and every pair of rounds starts one name later. Over each
    ``2 * len(names)`` rounds every name takes every place equally often, and a drift that is even in
    time costs all names the same.
    """
    for index in range(rounds):
        start = index // 2 % max(len(names), 1)
        order = (*names[start:], *names[:start])
        yield order[::-1] if index % 2 else order


def check_settings(duration_s: float, iterations: int, warmup_s: float, rounds: int) -> None:
    """Check what a user can get wrong.

    Raises:
        UsageError: a number is negative, infinite, or not a number, or there is no round.
    """
    for flag, seconds in (("--duration", duration_s), ("--warmup", warmup_s)):
        if not 0 <= seconds < math.inf:
            raise UsageError(f"{flag} must be a number of seconds from 0, not {seconds}")
    for flag, number in (("--iterations", iterations), ("the number of rounds", rounds)):
        if number < 1:
            raise UsageError(f"{flag} must be 1 or more, not {number}")


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
