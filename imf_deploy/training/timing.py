"""Duration of training steps on this machine, estimated from a few real ones."""

import math
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from imf_deploy.data import DataSet
from imf_deploy.settings import TrainingSettings
from imf_deploy.training import distributed
from imf_deploy.training.capture import EAGER_STEPS, why_eager
from imf_deploy.training.cpu_layers import fast_layers
from imf_deploy.training.device import choose_device
from imf_deploy.training.parts import Parts
from imf_deploy.training.task import Task
from imf_deploy.training.training import Training

MOST_STEPS = 12
FIRST_STEPS = 0.7
"""Fraction of the time after which a first step is not followed by another one."""
PART = 0.1
"""Maximum fraction of a short training that is timed; at least two steps are."""


def time_steps(
    task: Task, data: DataSet, config: TrainingSettings, seconds: float, steps: int, cuda_graph: bool
) -> float:
    """Return the wall-clock time of one step in seconds.

    Args:
        task: Copy of the task to train. Its weights change; a teacher in it does not.
        data: Data of the training.
        config: Settings of the training.
        seconds: Time to spend. The current step is finished; there are at least two, unless the first one
            takes most of that time, and with a CUDA graph as many as the graph needs.
        steps: Number of steps of the training, or of its remainder.
        cuda_graph: Whether the training runs its steps as a CUDA graph, if possible.
    """
    device = choose_device(config.device)
    capture = device.type == "cuda" and cuda_graph and not why_eager(config)
    least = EAGER_STEPS + 2 if capture else 2
    most = max(min(int(steps * PART), MOST_STEPS), least)
    taken: list[float] = []
    with (
        untouched_generators(device),
        distributed.accelerator(device, config.train_precision) as accelerator,
        fast_layers(task.module, device),
        Parts(task, config, data.preprocess.num_classes).frozen() as parts,
    ):
        training = Training(task, data, config, parts, device, accelerator, capture=capture)
        began = last = _now(device)
        for _ in training.steps(math.inf):
            now = _now(device)
            taken.append(now - last)
            last = now
            enough = seconds if len(taken) >= least else FIRST_STEPS * seconds if not capture else math.inf
            if now - began > enough or len(taken) >= most:
                break
        training.finish()
    # The first steps choose kernels, start workers and capture graphs.
    return statistics.median(taken[len(taken) // 2 :])


def time_call(run: Callable[[], object], device: torch.device) -> float:
    """Return the wall-clock time in seconds of the second of two calls."""
    run()
    began = _now(device)
    run()
    return _now(device) - began


def untouched_generators(device: torch.device) -> AbstractContextManager[None]:
    """Restore PyTorch's random state afterwards."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
