"""The conditions of a measurement: the machine, its settings, other work, and the energy that it takes."""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

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
    return str(torch.cuda.get_device_name()) if torch and torch.cuda.is_available() else None


def _read(path: str) -> str | None:
    """Return the text of a kernel file, or ``None``."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


_NEGLIGIBLE = 0.1
"""Fraction of the measurement's own CPUs that may be missing without a message."""


class OtherWork:
    """Observes the machine in a ``with`` block, from the kernel's counters of idle and own time (ours).

    Attributes:
        cpus: Number of CPUs' worth of time used by anything but this process and its finished children: other
            processes, and time stolen by a hypervisor. Set on exit.
    """

    cpus: float = 0.0

    def __enter__(self) -> OtherWork:
        """Start observing."""
        self._began = _times()
        return self

    def __exit__(self, *_: object) -> None:
        """Compute the result."""
        wall, idle, own = (after - before for after, before in zip(_times(), self._began, strict=True))
        taken = wall * (psutil.cpu_count() or 1) - idle - own
        self.cpus = max(taken / wall, 0.0) if wall else 0.0


def _times() -> tuple[float, float, float]:
    """Return the time, and in seconds of one CPU the idle time of all and the own time of this process."""
    machine, mine = psutil.cpu_times(), psutil.Process().cpu_times()
    idle = machine.idle + getattr(machine, "iowait", 0.0)
    own = mine.user + mine.system + mine.children_user + mine.children_system
    return time.perf_counter(), idle, own


MEASURE_AGAIN = "measure again with imf-deploy bench"


def busy_machine(other_cpus: float, threads: int, again: str = MEASURE_AGAIN) -> str:
    """Return a sentence if the threads of a measurement cannot all have had a CPU; otherwise an empty text.

    Args:
        other_cpus: Result of :class:`OtherWork`.
        threads: Number of threads of the measurement.
        again: What to do about it.
    """
    present = psutil.cpu_count() or 1
    if other_cpus <= present - threads + _NEGLIGIBLE * threads:
        return ""
    return (
        f"The machine was busy: other work used {other_cpus:.1f} of its {present} CPUs while {threads} "
        f"thread{'s were' if threads > 1 else ' was'} measured. Latencies and speed-ups are not those of an "
        f"idle machine: {again}"
    )


POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class EnergyMeter:
    """Counters of all processor packages; they count the energy of every process on the machine.

    Source: Linux, Documentation/power/powercap/powercap.rst. The counters are updated about every
        millisecond, so they are meant for spans of a tenth of a second and more.

    Attributes:
        counters: Path of each package's ``energy_uj`` and the value after which it wraps.
    """

    counters: tuple[tuple[Path, int], ...]

    def read(self) -> tuple[int, ...]:
        """Return the counters in microjoules."""
        return tuple(int(path.read_text()) for path, _ in self.counters)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Return the energy between two readings; each counter may have wrapped once."""
        spans = (
            stop - start if stop >= start else stop - start + most + 1
            for start, stop, (_, most) in zip(before, after, self.counters, strict=True)
        )
        return sum(spans) / 1e6


def find_energy_meter(root: Path = POWERCAP) -> EnergyMeter | str:
    """Return the meter of this machine, or why there is none.

    Args:
        root: Folder of the kernel's power zones.
    """
    counters = []
    # Only packages are read: cores and memory are part of them, and psys covers the whole board.
    for zone in sorted(root.glob("*")):
        try:
            if not (zone / "name").read_text().startswith("package"):
                continue
            counter = zone / "energy_uj"
            int(counter.read_text())
            counters.append((counter, int((zone / "max_energy_range_uj").read_text())))
        except PermissionError:
            return f"{zone}/energy_uj is readable only by root"
        except (OSError, ValueError):
            continue  # a zone of another kind
    if not counters:
        return f"the kernel shows no processor package in {root} (a virtual machine, or no RAPL)"
    return EnergyMeter(tuple(counters))
