"""Scalars of a training for TensorBoard, one point per epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imf_deploy.errors import ImfDeployError
from imf_deploy.processes import is_first
from imf_deploy.settings import MonitoringSettings

Log = Callable[[Mapping[str, float]], None]


def require_tensorboard() -> Any:
    """Return PyTorch's ``SummaryWriter``.

    Raises:
        ImfDeployError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImfDeployError(
            "--tensorboard needs TensorBoard, which is not installed",
            "Type: pip install 'imf-deploy[tensorboard]', or leave out --tensorboard",
        ) from error
    return SummaryWriter


def check_monitoring(monitoring: MonitoringSettings) -> None:
    """Refuse outputs that cannot be written, before anything is trained.

    Raises:
        ImfDeployError: TensorBoard is requested but not installed.
    """
    if monitoring.tensorboard:
        require_tensorboard()


@contextmanager
def scalars(folder: Path | None, done: int) -> Iterator[Log]:
    """Yield a function that writes one epoch's record; if there are several processes, only the first writes.

    Args:
        folder: Folder of the events; ``None`` writes none.
        done: Number of epochs before this run. Later epochs written by a killed run are hidden.
    """
    if folder is None or not is_first():
        yield lambda _record: None
        return
    writer = require_tensorboard()(str(folder), purge_step=done + 1)

    def log(record: Mapping[str, float]) -> None:
        for name, value in record.items():
            if name != "epoch":
                group = "" if name in ("lr", "validation_accuracy") else "loss/"
                writer.add_scalar(group + name, value, int(record["epoch"]))
        writer.flush()

    try:
        yield log
    finally:
        writer.close()
