"""Differences between machines and versions of the libraries, each with its reason."""

import importlib.metadata
import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

_PACKAGES = (
    "imf-deploy", "torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "openvino",
    "tensorrt", "tensorrt-rtx", "numpy", "safetensors", "timm", "torchao", "accelerate",
)  # fmt: skip


@cache
def usable_cpus() -> int:
    """Return how many CPUs this process may use: affinity mask and cgroup quota, at least 1.

    ``os.cpu_count`` and ONNX Runtime's default ignore both, and run two to three times slower
    under a mask.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    with suppress(OSError, ValueError):  # without cgroup v2 or Linux, only the mask is known
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(int(int(quota) / int(period)), 1))
    return count


@cache
def versions() -> dict[str, str]:
    """Return the versions of this package and of those its numbers depend on, if installed."""
    known = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            known[package] = importlib.metadata.version(package)
    return known


@cache
def cpu_model() -> str:
    """Return the name of the CPU as reported by the kernel, or the architecture."""
    with suppress(OSError):  # not on Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
