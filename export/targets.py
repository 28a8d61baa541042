"""Targets of an engine: a flavour of TensorRT, batch sizes, compute capabilities."""

from collections.abc import Sequence

from imf_deploy.settings import BatchRange
from imf_deploy.settings.export import RTX_CAPABILITIES

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
