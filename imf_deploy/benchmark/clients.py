"""Concurrent requests: the throughput of several clients together, and the time of each request."""

import contextlib
import gc
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from imf_deploy.benchmark.latency import Nanoseconds
from imf_deploy.benchmark.measure import slice_orders
from imf_deploy.runners.base import Batch, Runner
from imf_deploy.runners.opening import Way

Sessions = Literal["shared", "own"]
"""Whether all clients use one loaded file, or each has loaded its own."""

ROUNDS = 6
LEAST_ROUND_S = 0.02


@dataclass(frozen=True)
class ClientLoad:
    """The results of a number of clients; each sends its next request when the previous one is answered.

    Attributes:
        clients: Number of threads that send requests.
        sessions: Whether they share one loaded file.
        threads: Number of threads in each session's own pool on a CPU.
        images: Images in the batch of one request.
        count: Number of requests of all clients.
        images_per_second: Throughput of all clients together.
        p50_ms: Median time of a request.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        speed: Images per second divided by those of one client in the same rounds.
    """

    clients: int
    sessions: Sessions
    threads: int
    images: int
    count: int = 0
    images_per_second: float = 0.0
    p50_ms: float = 0.0
    p90_ms: float = 0.0
    p99_ms: float = 0.0
    speed: float = 0.0


@dataclass
class _Mode:
    """One number of clients with one kind of sessions, open."""

    load: ClientLoad
    runners: list[Runner]
    taken: list[list[Nanoseconds]]


def measure_clients(
    way: Way, batch: Batch, counts: Sequence[int], duration_s: float, warmup_s: float
) -> list[ClientLoad]:
    """Measure one file under concurrent requests: with one session for all clients, and with one for each.

    One client is also measured, and all take turns in ``ROUNDS`` rounds. If each client has its own session,
    the threads of a CPU are divided among them. On a GPU, clients that share an engine or a module have a
    stream, buffers and an execution context each.

    Args:
        way: The file and how to run it.
        batch: Input of every request.
        counts: Numbers of clients.
        duration_s: Minimum time in seconds that each number of clients is measured for.
        warmup_s: Minimum time in seconds of the warm-up before each.

    Returns:
        One client first, then for each count ``shared`` and ``own``.

    Raises:
        ImfDeployError: the file cannot be loaded or fails.
    """
    wanted: list[tuple[int, Sessions]] = [(1, "shared")]
    wanted += [(count, kind) for count in counts if count > 1 for kind in ("shared", "own")]
    with contextlib.ExitStack() as opened:
        modes = [_open(way, batch, count, kind, opened) for count, kind in wanted]
        for mode in modes:
            _round(mode.runners, batch, warmup_s)
        round_s = max(duration_s / ROUNDS, LEAST_ROUND_S)
        for order in slice_orders([str(index) for index in range(len(modes))], ROUNDS):
            for index in order:
                mode = modes[int(index)]
                mode.taken.append(_round(mode.runners, batch, round_s))
    one = _throughput(modes[0].taken, len(batch))
    return [_load(mode, one) for mode in modes]


def _open(way: Way, batch: Batch, count: int, kind: Sessions, opened: contextlib.ExitStack) -> _Mode:
    """Load a file for a number of clients, and run it once for each of them."""
    threads = max(way.threads // count, 1) if kind == "own" else way.threads
    load = ClientLoad(count, kind, threads, len(batch))
    first = opened.enter_context(replace(way, threads=threads).open())
    first.infer(batch)
    runners: list[Runner] = [first]
    for _ in range(count - 1):
        if kind == "own":
            runners.append(opened.enter_context(replace(way, threads=threads).open()))
        else:
            runners.append(opened.enter_context(first.share()))
        # Clients are opened one after the other: a CUDA graph must not be captured while another client runs.
        runners[-1].infer(batch)
    return _Mode(load, runners, [])


def _round(runners: Sequence[Runner], batch: Batch, seconds: float) -> list[Nanoseconds]:
    """Let every client send requests for a time, all at once; return the nanoseconds of each request."""
    together, stop = threading.Barrier(len(runners)), threading.Event()

    def client(runner: Runner) -> Nanoseconds:
        clock, samples = time.perf_counter_ns, []
        try:
            together.wait()
            end = clock() + int(seconds * 1e9)
            while not stop.is_set():
                start = clock()
                runner.infer(batch)
                stopped = clock()
                samples.append(stopped - start)
                if stopped >= end:
                    break
        except BaseException:
            stop.set()
            together.abort()
            raise
        return np.array(samples, dtype=np.int64)

    collecting = gc.isenabled()
    gc.disable()
    try:
        with ThreadPoolExecutor(len(runners), "client") as pool:
            futures = [pool.submit(client, runner) for runner in runners]
            try:
                failed = [future.exception() for future in futures]
            except BaseException:
                stop.set()
                raise
            # A client that fails breaks the barrier of the others; its own error is the cause.
            causes = [
                error for error in failed if error and not isinstance(error, threading.BrokenBarrierError)
            ]
            if causes:
                raise causes[0]
            return [future.result() for future in futures]
    finally:
        if collecting:
            gc.enable()


def _throughput(taken: Sequence[Sequence[Nanoseconds]], images: int) -> float:
    """Return images per second of all clients together, over all rounds."""
    rates = [sum(len(samples) / samples.sum() for samples in clients) for clients in taken]
    return float(np.mean(rates)) * images * 1e9


def _load(mode: _Mode, one: float) -> ClientLoad:
    samples = np.concatenate([samples for clients in mode.taken for samples in clients]) / 1e6
    p50, p90, p99 = (float(value) for value in np.percentile(samples, (50, 90, 99)))
    rate = _throughput(mode.taken, mode.load.images)
    return replace(
        mode.load,
        count=samples.size,
        images_per_second=rate,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        speed=rate / one,
    )
