"""Experiment trackers by name, through Accelerate: TensorBoard, MLflow, Weights & Biases and others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.settings import MonitoringSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

Log = Callable[[Mapping[str, float]], None]


def tracker_names(monitoring: MonitoringSettings) -> list[str]:
    """Return the trackers that are requested, each once."""
    return list(dict.fromkeys([*(["tensorboard"] if monitoring.tensorboard else []), *monitoring.log_with]))


def check_monitoring(monitoring: MonitoringSettings) -> None:
    """Refuse trackers that cannot be used, before anything is trained.

    Raises:
        UsageError: Accelerate does not know a tracker.
        ImfDeployError: a tracker is not installed.
    """
    if not (names := tracker_names(monitoring)):
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
    from accelerate.utils import LoggerType

    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
            raise UsageError(f"`log_with` has no tracker '{name}'", f"Choose from: {known}")
        # Accelerate leaves out a tracker that is not installed.
        if name in LoggerType.list() and LoggerType(name) not in get_available_trackers():
            package = "'imf-deploy[tensorboard]'" if name == "tensorboard" else name.replace("_", "-")
            raise ImfDeployError(f"the tracker {name} is not installed", f"Type: pip install {package}")


@contextmanager
def scalars(accelerator: Accelerator, place: Path, done: int) -> Iterator[Log]:
    """Yield a function that sends one epoch's record to the trackers; only the first process sends.

    Args:
        accelerator: Accelerate's, made with ``log_with``.
        place: Its name is that of the run.
        done: Number of epochs before this run. TensorBoard hides later epochs that a killed run wrote.
    """
    accelerator.init_trackers(place.stem, init_kwargs={"tensorboard": {"purge_step": done + 1}})

    def log(record: Mapping[str, float]) -> None:
        values = {
            name if name in ("lr", "validation_accuracy") else f"loss/{name}": value
            for name, value in record.items()
            if name != "epoch"
        }
        accelerator.log(values, step=int(record["epoch"]))

    try:
        yield log
    finally:
        # Not end_training(), which would part the processes.
        for tracker in accelerator.trackers:
            tracker.finish()
