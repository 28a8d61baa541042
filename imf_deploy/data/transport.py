"""How batches are sent by the processes that decode them: shared memory, a pipe, or no processes at all.

PyTorch sends tensors through ``/dev/shm``. A container has 64 MB of it by default, and a worker that finds no
space there dies of a bus error, or waits for ever.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from imf_deploy.progress import say

SHARED = Path("/dev/shm")  # noqa: S108  the only name that Linux has for it
# Number of batches that a DataLoader prepares ahead for every worker.
_AHEAD = 2
# Maximum size of the locks of a worker's queues in bytes, a page each.
_QUEUES = 1 << 17
# Other processes, such as those of the same training, need space as well.
_MARGIN = 4
_warned: set[str] = set()


@dataclass(frozen=True)
class Transport:
    """How batches are sent.

    Attributes:
        workers: Number of processes that decode; 0 if this process does.
        piped: Whether batches are sent through a pipe, which is slower and needs no shared memory.
    """

    workers: int
    piped: bool = False

    @classmethod
    def choose(cls, workers: int, batch_bytes: int) -> Transport:
        """Choose by the free space in shared memory, and warn if there is too little.

        Args:
            workers: Requested number of processes.
            batch_bytes: Size of the largest batch in bytes.
        """
        if not workers:
            return cls(0)
        free = _free()
        try:
            multiprocessing.Lock()  # every queue needs some, and they are in shared memory
            why = "" if free is None or free >= workers * _QUEUES else "it is full"
        except OSError as error:
            why = error.strerror or str(error)
        if why:
            _warn_once("alone", f"Images are decoded in one process: {SHARED} cannot be used ({why})")
            return cls(0)
        if free is None or free >= _MARGIN * (_AHEAD * workers + 2) * batch_bytes:
            return cls(workers)
        _warn_once(
            "piped",
            f"{SHARED} has only {free >> 20} MiB free: batches of images use pipes, which are slower. "
            "In a container, use --shm-size 8g",
        )
        return cls(workers, piped=True)


@dataclass(frozen=True)
class PipedBatch:
    """A batch as arrays, which are pickled through a pipe; tensors would use shared memory."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    @classmethod
    def of(cls, images: Tensor, labels: Tensor) -> PipedBatch:
        """Pack a batch, ``uint8 [B, C, H, W]`` and ``int64 [B]``."""
        return cls(images.numpy(), labels.numpy())

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return the batch as tensors, without a copy."""
        return torch.from_numpy(self.images), torch.from_numpy(self.labels)

    def pin_memory(self) -> tuple[Tensor, Tensor]:
        """Return the batch as tensors in pinned memory; a ``DataLoader`` calls this for GPUs."""
        images, labels = self.tensors()
        return images.pin_memory(), labels.pin_memory()


def _free() -> int | None:
    """Return the number of free bytes in shared memory, or ``None`` if it is not a folder."""
    try:
        about = os.statvfs(SHARED)
    except (OSError, AttributeError):
        return None
    return about.f_bavail * about.f_frsize


def _warn_once(kind: str, message: str) -> None:
    if kind not in _warned:
        _warned.add(kind)
        say(message, logging.WARNING)
