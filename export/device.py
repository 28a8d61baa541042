"""The current GPU, as far as engines depend on it."""

import ctypes
import sys

from imf_deploy.export.flavour import gpu_here
from imf_deploy.records.making import Gpu


def this_gpu() -> Gpu | None:
    """Return the current CUDA device; ``None`` if PyTorch finds none."""
    import torch

    capability = gpu_here()
    return Gpu(torch.cuda.get_device_name(), capability, cuda_driver()) if capability else None


def cuda_driver() -> str:
    """Return the newest CUDA version that the installed driver supports; empty if there is no driver.

    The driver itself is queried, because PyTorch finds no device at all if the driver is too old.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        version = ctypes.c_int()
        if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
            return ""
    except (OSError, AttributeError):
        return ""
    return f"{version.value // 1000}.{version.value % 1000 // 10}"
