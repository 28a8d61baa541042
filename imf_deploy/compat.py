"""Differences between machines and versions of the libraries, each with its reason."""

from __future__ import annotations

import importlib.metadata
import os
import platform
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
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(int(int(quota) / int(period)), 1))
    except (OSError, ValueError):
        pass  # without cgroup v2 or Linux, only the mask is known
    return count


@cache
def versions() -> dict[str, str]:
    """Return the versions of this package and of those its numbers depend on, if installed."""
    known = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            known[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return known


@cache
def cpu_model() -> str:
    """Return the name of the CPU as reported by the kernel, or the architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not on Linux
    return platform.processor() or platform.machine()
