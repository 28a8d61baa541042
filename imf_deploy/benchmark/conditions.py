"""The conditions of a measurement, without which a latency is meaningless."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imf_deploy.compat import cpu_model, usable_cpus, versions

# Instruction sets that matrix kernels choose from; fewer of them can mean several times the latency.
_ISA = (
    "fma", "avx", "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip


def conditions(threads: int | None = None) -> dict[str, Any]:
    """Return what the numbers depend on, as a dictionary for JSON.

    Args:
        threads: Number of threads of the runners; by default every CPU that the process may use.

    Returns:
        ``time`` (UTC), ``os``, ``cpu``, ``isa`` (relevant flags), ``cpus`` (of the machine), ``usable_cpus``
        (affinity and cgroup), ``threads``, ``governor`` (``None`` if the kernel reports none),
        ``load_average`` (1, 5 and 15 minutes; ``None`` on Windows), ``gpu`` (``None`` without one) and
        ``versions``.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "os": platform.platform(),
        "cpu": cpu_model(),
        "isa": isa_flags(),
        "cpus": os.cpu_count(),
        "usable_cpus": usable_cpus(),
        "threads": threads or usable_cpus(),
        "governor": governor(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "gpu": _gpu(),
        "versions": versions(),
    }


def isa_flags() -> list[str]:
    """Return the CPU's instruction sets that matter for inference; empty if unknown."""
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith(("flags", "Features")):
            has = set(line.split(":", 1)[1].split())
            return [flag for flag in _ISA if flag in has]
    return []


def governor() -> str | None:
    """Return the frequency governor of the first CPU, such as ``performance``; ``None`` if unknown."""
    return _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def _gpu() -> str | None:
    """Return the name of the CUDA device."""
    # Code that ran on a GPU has imported PyTorch; otherwise the import is not worth its time.
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name())


def _read(path: str) -> str | None:
    """Return the text of a kernel file, or ``None``."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
