"""Targets of an engine: a flavour of TensorRT, batch sizes, compute capabilities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from imf_deploy.errors import UsageError

Flavour = Literal["rtx", "tensorrt"]
"""TensorRT-RTX, or the full TensorRT."""

TURING = "75"
RTX_CAPABILITIES = (TURING, "80", "86", "89", "120", "121")
"""Compute capabilities that TensorRT-RTX builds for: Turing, Ampere, Ada, Blackwell."""
PORTABLE_CAPABILITIES = RTX_CAPABILITIES[1:]
"""Compute capabilities that an engine without targets is built for, besides newer ones."""


def rtx_runs_on(capability: str, targets: Sequence[str] = RTX_CAPABILITIES) -> bool:
    """Return whether TensorRT-RTX runs on GPUs of a compute capability such as ``89``.

    It runs on the targets and on GPUs that are newer than all of them, according to its runtime. It does not
    run on Hopper (90) or data-centre Blackwell (100, 103), which are older than the newest target.

    Args:
        capability: Compute capability of the GPU.
        targets: Capabilities that it builds for, or that an engine without targets was built for.
    """
    return capability in targets or int(capability) > max(map(int, targets))


@dataclass(frozen=True)
class BatchRange:
    """Batch sizes that an engine accepts, and the one it is tuned for.

    Attributes:
        min: Smallest batch.
        opt: Batch that the engine is tuned for.
        max: Largest batch.
    """

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        # TensorRT silently accepts a wrong range and then builds nothing.
        if not 1 <= self.min <= self.opt <= self.max:
            raise UsageError(
                f"the batch range {self} does not rise from at least 1", "Use MIN:OPT:MAX, such as 1:8:32"
            )

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"

    @classmethod
    def parse(cls, text: str) -> BatchRange:
        """Read ``MIN:OPT:MAX``, or one number for a fixed batch.

        Raises:
            UsageError: the text has another form, or does not rise.
        """
        parts = text.split(":")
        if len(parts) == 1:
            parts *= 3
        if len(parts) != 3 or not all(re.fullmatch("[0-9]{1,9}", part.strip()) for part in parts):
            raise UsageError(f"'{text}' is not a batch range", "Use MIN:OPT:MAX (1:8:32) or one number")
        return cls(*(int(part) for part in parts))


_MOST_PROFILES = 16


def profiles_of(batch: BatchRange | Sequence[BatchRange]) -> tuple[BatchRange, ...]:
    """Return the optimisation profiles of an engine, one range of batches for each."""
    return (batch,) if isinstance(batch, BatchRange) else tuple(batch)


def parse_profiles(text: str) -> tuple[BatchRange, ...]:
    """Read ``--batch``: ranges separated by commas, such as ``1,8:32:64``, each of which is tuned separately.

    Raises:
        UsageError: a part is not a range, there are too many, or two are the same.
    """
    profiles = tuple(BatchRange.parse(part) for part in text.split(","))
    if len(profiles) > _MOST_PROFILES or len(set(profiles)) < len(profiles):
        raise UsageError(
            f"'{text}' has {len(profiles)} batch ranges", f"Use up to {_MOST_PROFILES} different ones"
        )
    return profiles


def profiles_text(profiles: Sequence[BatchRange]) -> str:
    """Return the form that :func:`parse_profiles` reads."""
    return ",".join(map(str, profiles))


def choose_profile(profiles: Sequence[BatchRange], size: int) -> int | None:
    """Return the index of the profile for a batch: of those that accept it, the one tuned closest to it.

    Args:
        profiles: Profiles of an engine, in its order.
        size: Images in the batch.
    """
    fitting = [index for index, batch in enumerate(profiles) if batch.min <= size <= batch.max]
    # Compared as a ratio: a kernel for 32 images is nearer to 64 than one for 1.
    return min(
        fitting,
        key=lambda index: max(size, profiles[index].opt) / min(size, profiles[index].opt),
        default=None,
    )


def parse_capability(text: str) -> str:
    """Return a compute capability as ``86`` from any notation: ``86``, ``sm86``, ``sm_86``, ``8.6``.

    Raises:
        UsageError: TensorRT-RTX cannot build for it.
    """
    match = re.fullmatch(r"(?:sm_?)?([0-9]{1,2})\.?([0-9])", text.strip().lower())
    name = "".join(match.groups()) if match else ""
    if name not in RTX_CAPABILITIES:
        raise UsageError(
            f"TensorRT-RTX cannot build for compute capability '{text}'",
            f"Choose from {', '.join(RTX_CAPABILITIES)}, or leave it out for an engine that runs "
            "on RTX GPUs, Ampere and newer",
        )
    return name
