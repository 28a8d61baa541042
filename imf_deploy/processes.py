"""Which of several processes this is, as ``torchrun`` and ``accelerate launch`` tell it; light."""

from __future__ import annotations

import os
import sys


def world_size() -> int:
    """Return how many processes train together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def rank() -> int:
    """Return this process's number among all of them, from 0."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def local_rank() -> int:
    """Return this process's number on its machine, from 0; its GPU has the same."""
    return int(os.environ["LOCAL_RANK"]) if world_size() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def has_met() -> bool:
    """Whether the processes are connected."""
    torch = sys.modules.get("torch")  # not imported for this
    return torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()
