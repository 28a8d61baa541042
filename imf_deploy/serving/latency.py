"""Latencies of two files in alternating rounds, each on an input of its own size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from imf_deploy.benchmark.conditions import OtherWork, busy_machine
from imf_deploy.benchmark.latency import ratio
from imf_deploy.benchmark.measure import measure
from imf_deploy.forms import Number, Whole
from imf_deploy.runners.base import Batch, Logits, Runner
from imf_deploy.serving.classifier import Classifier

ROUNDS, LOADS = 36, 6
# Seconds after each load.
WARMUP_S = 0.05


@dataclass(frozen=True)
class SideBySide:
    """Latencies of both files, measured in alternating rounds.

    Attributes:
        current_ms: Median latency of the current file in milliseconds.
        candidate_ms: That of the candidate.
        ratio: Candidate divided by current, the median over loads.
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
        images: Images in the batch.
        threads: Number of threads of both.
        remark: A sentence if other work took processors meanwhile; else empty.
    """

    current_ms: Number
    candidate_ms: Number
    ratio: Number
    low: Number
    high: Number
    images: Whole
    threads: Whole
    remark: str


class _OnOwnInput:
    """A runner that answers for its own input, whatever it is given."""

    def __init__(self, runner: Runner, batch: Batch) -> None:
        self.name = runner.name
        self._runner, self._batch = runner, batch

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.__exit__(*_)

    def infer(self, _: Batch) -> Logits:
        return self._runner.infer(self._batch)


def side_by_side(candidate: Classifier, current: Classifier, seconds: float) -> SideBySide:
    """Measure the latencies of two files at the smallest batch that both run.

    Args:
        candidate: The one file.
        current: The other one.
        seconds: Minimum time in seconds that each is measured for.

    Raises:
        DeviceError: this machine lacks the device of a file.
        ImfDeployError: a file does not run.
    """
    images = max(candidate.batch, current.batch, 1)
    runners: dict[str, Runner] = {}
    for name, each in (("current", current), ("candidate", candidate)):
        # A file that fixes its batch keeps it.
        shape = (each.batch or images, *each.preprocess.shape)
        batch = np.random.default_rng(0).standard_normal(shape, np.float32)
        runners[name] = _OnOwnInput(replace(each.way, measured=True).open(), batch)
    threads = candidate.way.threads
    with OtherWork() as others:
        measured = measure(
            runners,
            np.empty(0, np.float32),
            duration_s=seconds,
            warmup_s=WARMUP_S,
            rounds=ROUNDS,
            loads=LOADS,
        )
    own, other = measured["candidate"], measured["current"]
    found = ratio(own, other)
    return SideBySide(
        other.p50,
        own.p50,
        found.value,
        found.low,
        found.high,
        images,
        threads,
        busy_machine(others.cpus, threads),
    )
