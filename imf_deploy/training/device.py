"""Choose the device that a training runs on."""

import torch

from imf_deploy.errors import DeviceError, UsageError
from imf_deploy.processes import local_rank, world_size


def choose_device(name: str) -> torch.device:
    """Return the device that ``device`` names; if there are several processes, each has its own GPU.

    Raises:
        UsageError: the name is not a device.
        DeviceError: CUDA is requested but not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"`device` {name} is not a device", "Use auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"`device` {name} is not supported", "Use auto, cpu or cuda")
    if device.type == "cuda" and world_size() > 1:
        if device.index is not None:
            raise UsageError(f"`device` {name} names one GPU for several processes", "Use auto or cuda")
        device = torch.device("cuda", local_rank())
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        what = f"`device` {device} does not exist; there are {count}" if count else "no CUDA device was found"
        raise DeviceError(what, "Use `device` cpu")
    return device
