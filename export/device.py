"""The current GPU, as far as engines depend on it."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import asdict, dataclass

from imf_deploy.export.flavour import gpu_here


@dataclass(frozen=True)
class Gpu:
    """A GPU and its driver.

    Attributes:
        name: For example ``NVIDIA H200``.
        capability: Compute capability, such as ``90``.
        cuda_driver: Newest CUDA version that the driver supports, such as ``13.0``; empty if unknown.
    """

    name: str
    capability: str
    cuda_driver: str

    def __str__(self) -> str:
        return f"{self.name} (SM{self.capability})"

    def to_dict(self) -> dict[str, str]:
        """Return the form that records store."""
        return asdict(self)


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
