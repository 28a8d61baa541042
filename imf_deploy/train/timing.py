"""How long steps of a training take on this machine, from a few real ones."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from imf_deploy.data import DataSet
from imf_deploy.train import distributed
from imf_deploy.train.config import TrainConfig, choose_device
from imf_deploy.train.task import Task
from imf_deploy.train.training import Training

MOST_STEPS = 12
PART = 0.1
"""Of a short training, at most this part is timed, and two steps."""


def time_steps(task: Task, data: DataSet, config: TrainConfig, seconds: float, steps: int) -> float:
    """Return the wall-clock time of one step in seconds.

    Args:
        task: What to train. Its weights change, so it is a copy; a teacher in it does not.
        data: Of the training.
        config: Settings of the training.
        seconds: Time to spend; a step that is under way is finished, and so is a second one, unless the
            first one took most of that time.
        steps: Of the training, or what is left of it.
    """
    most = min(max(int(steps * PART), 2), MOST_STEPS)
    device = choose_device(config.device)
    taken: list[float] = []
    with (
        untouched_generators(device),
        distributed.accelerator(device, config.precision) as accelerator,
    ):
        running = Training(task, data, config, device, accelerator).steps(math.inf)
        began = last = _now(device)
        for _ in running:
            now = _now(device)
            taken.append(now - last)
            last = now
            spent = now - began
            if spent > seconds * (0.7 if len(taken) == 1 else 1.0) or len(taken) >= most:
                break
    # The first step chooses kernels and starts workers.
    return statistics.median(taken[1:] or taken)


def time_call(run: Callable[[], object], device: torch.device) -> float:
    """Return the wall-clock time in seconds of the second of two calls."""
    run()
    began = _now(device)
    run()
    return _now(device) - began


@contextmanager
def untouched_generators(device: torch.device) -> Iterator[None]:
    """Bring PyTorch's random numbers back to where they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
