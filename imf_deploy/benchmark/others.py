"""How much of the machine other processes took while something was measured."""

from __future__ import annotations

import time
from types import TracebackType

import psutil

_NEGLIGIBLE = 0.1
"""Part of the measurement's own CPUs that may be missing without a word."""


class OtherWork:
    """Watches the machine from ``with`` on; ours, from the kernel's counters of idle and of own time.

    Attributes:
        cpus: How many CPUs' worth of time went to anything but this process and its finished children:
            other processes, and what a hypervisor took. Set at the end.
    """

    cpus: float = 0.0

    def __enter__(self) -> OtherWork:
        """Begin to watch."""
        self._began = _read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Reckon up."""
        wall, idle, own = (after - before for after, before in zip(_read(), self._began, strict=True))
        taken = wall * (psutil.cpu_count() or 1) - idle - own
        self.cpus = max(taken / wall, 0.0) if wall else 0.0


def _read() -> tuple[float, float, float]:
    """Return the clock, and in seconds of one CPU the idle time of all and the own time of this process."""
    machine, mine = psutil.cpu_times(), psutil.Process().cpu_times()
    idle = machine.idle + getattr(machine, "iowait", 0.0)
    own = mine.user + mine.system + mine.children_user + mine.children_system
    return time.perf_counter(), idle, own


def busy_machine(other_cpus: float, threads: int) -> str:
    """Return a sentence if the threads of a measurement cannot all have had a CPU; else nothing.

    Args:
        other_cpus: What :class:`OtherWork` saw.
        threads: Of the measurement.
    """
    present = psutil.cpu_count() or 1
    if other_cpus <= present - threads + _NEGLIGIBLE * threads:
        return ""
    return (
        f"The machine was busy: other work took {other_cpus:.1f} of its {present} CPUs while {threads} "
        f"thread{'s were' if threads > 1 else ' was'} measured. Latencies and speed-ups are not those of a "
        "quiet machine: measure again with imf-deploy bench"
    )
