"""The machine itself: processors, memory, disk, and what can be read from them during measurements."""

import os
import shutil
from pathlib import Path

from imf_deploy.benchmark.conditions import EnergyMeter, find_energy_meter, isa_flags
from imf_deploy.benchmark.conditions import governor as read_governor
from imf_deploy.benchmark.gpu import gpu_state
from imf_deploy.compat import cpu_model, usable_cpus
from imf_deploy.doctor.finding import Finding

# Products of uint8 and int8 that are summed in 32 bits; without them INT8 saturates or is slow.
_INT8 = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
# The main job needs this much for result files and temporary files.
_LEAST_DISK, _LEAST_MEMORY = 1 << 30, 2 << 30


def cpus() -> Finding:
    """Return the processor, and the number of its CPUs that this process may use."""
    usable, present = usable_cpus(), os.cpu_count() or 1
    description = f"{cpu_model()}, {usable} of {present} CPUs usable"
    return Finding(
        description, f"{present - usable} CPUs: an affinity mask or a quota" if usable < present else ""
    )


def int8_instructions() -> Finding:
    """Return the instructions that make INT8 fast and exact."""
    flags = isa_flags()
    supported = [flag for flag in flags if flag in _INT8]
    if supported:
        return Finding(f"{', '.join(supported)} (of {', '.join(flags)})")
    if not flags:
        return Finding(missing="this system does not show the CPU's instructions")
    return Finding(
        f"none of {', '.join(_INT8)}", "VNNI or dot products: INT8 may be slower than fp32, and saturate"
    )


def governor() -> Finding:
    """Return the frequency governor of the CPU."""
    name = read_governor()
    if name is None:
        return Finding(missing="the kernel shows no governor (a virtual machine?): clocks are unknown")
    if name == "performance":
        return Finding(name)
    return Finding(
        name, "steady clocks: latencies will vary", "sudo cpupower frequency-set --governor performance"
    )


def energy() -> Finding:
    """Return whether the energy of the processor can be read."""
    meter = find_energy_meter()
    if isinstance(meter, EnergyMeter):
        return Finding(f"RAPL, {len(meter.counters)} packages")
    readable = "sudo chmod a+r /sys/class/powercap/*/energy_uj" if "only by root" in meter else ""
    return Finding(missing=meter, command=readable)


def load() -> Finding:
    """Return how busy the machine is now."""
    if not hasattr(os, "getloadavg"):
        return Finding(missing="this system does not report its load")
    now = os.getloadavg()[0]
    busy = "other processes are running: latencies will vary" if now > 0.5 else ""
    return Finding(f"{now:.2f} on average over the last minute", busy, "top" if busy else "")


def memory() -> Finding:
    """Return the free memory."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return Finding(missing="this system does not show its memory")
    less = "" if available >= _LEAST_MEMORY else f"{_gib(_LEAST_MEMORY)} to train"
    return Finding(f"{_gib(available)} free", less)


def disk(folder: Path) -> Finding:
    """Return the free space of the disk that a folder is on."""
    free = shutil.disk_usage(folder).free
    less = "" if free >= _LEAST_DISK else f"{_gib(_LEAST_DISK)} for files and temporary files"
    return Finding(f"{_gib(free)} free in {folder}", less, "df -h" if less else "")


def gpu_clocks() -> Finding:
    """Return the clocks of the GPUs, as they are recorded with a measurement."""
    state = gpu_state()
    if isinstance(state, str):
        return Finding(missing=state)
    return Finding(
        "; ".join(f"{gpu['name']}: SM {gpu['clocks.sm']} of {gpu['clocks.max.sm']}" for gpu in state)
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
