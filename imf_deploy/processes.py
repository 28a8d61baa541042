"""The rank of this process, from the variables of ``torchrun`` and ``accelerate launch``; light to import."""

import os
import sys

from imf_deploy.errors import UsageError

# For Accelerate each of them indicates several processes, LOCAL_RANK even with WORLD_SIZE=1.
_LAUNCHERS = (
    "LOCAL_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE",
    "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE",
)  # fmt: skip
_MOST_PROCESSES = 1 << 20


def check_launcher() -> None:
    """Check the variables of a launcher, and remove those that a single process inherited.

    Raises:
        UsageError: a variable is missing, is not a number, or is out of range.
    """
    if world_size() > 1:
        rank()
        local_rank()
        _number("MASTER_PORT", 1, 65536)
        if not os.environ.get("MASTER_ADDR"):
            raise UsageError("the environment variable MASTER_ADDR is not set", _HINT)
    else:
        for name in _LAUNCHERS:
            os.environ.pop(name, None)


def world_size() -> int:
    """Return the number of processes that train together; 1 without a launcher.

    Raises:
        UsageError: ``WORLD_SIZE`` is not a valid number.
    """
    started = "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ
    return _number("WORLD_SIZE", 1, _MOST_PROCESSES) if started else 1


def rank() -> int:
    """Return the rank of this process, from 0.

    Raises:
        UsageError: ``RANK`` is not a valid number.
    """
    return _number("RANK", 0, world_size()) if world_size() > 1 else 0


def local_rank() -> int:
    """Return the rank of this process on its machine, from 0; its GPU has the same index.

    Raises:
        UsageError: ``LOCAL_RANK`` is not a valid number.
    """
    return _number("LOCAL_RANK", 0, world_size()) if world_size() > 1 else 0


_HINT = "Start several processes with torchrun or accelerate launch; to start only one, unset LOCAL_RANK"


def _number(name: str, least: int, end: int) -> int:
    """Return the number in an environment variable, from ``least`` to below ``end``."""
    text = os.environ.get(name)
    if text is None:
        raise UsageError(f"the environment variable {name} is not set", _HINT)
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1
    if not least <= number < end:
        raise UsageError(
            f"the environment variable {name} is '{text[:20]}', not a whole number from {least} to {end - 1}",
            _HINT,
        )
    return number


def is_first() -> bool:
    """Whether this process is the one that writes files and prints."""
    return rank() == 0


def is_connected() -> bool:
    """Whether the processes are connected."""
    torch = sys.modules.get("torch")  # avoids an import
    return torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()
