"""Choose between TensorRT and TensorRT-RTX, and import it; the GPU and its driver."""

import ctypes
import importlib
import sys
from dataclasses import dataclass
from typing import Any

from imf_deploy.errors import DeviceError, UsageError
from imf_deploy.records.making import Gpu
from imf_deploy.settings.export import Flavour, FlavourOption


@dataclass(frozen=True)
class Library:
    """One of the two libraries.

    Attributes:
        name: Its usual name.
        module: Its Python module.
        install: Command that installs it.
    """

    name: str
    module: str
    install: str


LIBRARIES: dict[Flavour, Library] = {
    "rtx": Library("TensorRT-RTX", "tensorrt_rtx", "pip install tensorrt-rtx"),
    "tensorrt": Library("TensorRT", "tensorrt", "pip install 'imf-deploy[tensorrt]'"),
}


@dataclass(frozen=True)
class FlavourChoice:
    """The TensorRT that builds the engines.

    Attributes:
        flavour: The chosen one; ``None`` if no engine is built.
        reason: The reason, in words for the report.
    """

    flavour: Flavour | None
    reason: str


def choose_flavour(option: FlavourOption) -> FlavourChoice:
    """Choose which TensorRT builds the engines on this machine.

    ``auto`` uses the full TensorRT if it can work, else TensorRT-RTX, which builds without a GPU, else none.

    Raises:
        UsageError: the requested one is not installed.
        DeviceError: the full TensorRT is requested, but there is no CUDA device.
    """
    if option == "off":
        return FlavourChoice(None, "switched off")
    if option in ("rtx", "tensorrt"):
        import_tensorrt(option)
        return FlavourChoice(option, "requested")
    order: tuple[tuple[Flavour, str], ...] = (
        ("tensorrt", "a CUDA device was found"),
        ("rtx", "it builds without a GPU"),
    )
    missing = []
    for flavour, reason in order:
        try:
            import_tensorrt(flavour)
        except (UsageError, DeviceError) as error:
            missing.append(error.what)
        else:
            return FlavourChoice(flavour, reason)
    return FlavourChoice(None, "; ".join(missing))


def gpu_here() -> str:
    """Return the compute capability of the current CUDA device, such as ``89``; empty if there is none."""
    import torch

    return "".join(map(str, torch.cuda.get_device_capability())) if torch.cuda.is_available() else ""


def import_tensorrt(flavour: Flavour) -> Any:
    """Return the Python module of a flavour; both have the same interface.

    Raises:
        UsageError: the library is not installed.
        DeviceError: the full TensorRT is requested, but there is no CUDA device, which it needs even to
            build.
    """
    if flavour == "tensorrt" and not gpu_here():
        raise DeviceError(
            "the full TensorRT only builds on a machine with a CUDA device",
            "Use `trt` rtx, which builds without one, or run this step on the GPU machine",
        )
    library = LIBRARIES[flavour]
    try:
        return importlib.import_module(library.module)
    except (ImportError, OSError) as error:  # OSError: a library of the wheel does not load
        raise UsageError(
            f"{library.module} is not usable here ({error})", f"Type: {library.install}"
        ) from error


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
