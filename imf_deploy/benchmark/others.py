"""The CPU time that other processes used during a measurement."""

from __future__ import annotations

import time
from types import TracebackType

import psutil

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
        self._began = _read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Compute the result."""
        wall, idle, own = (after - before for after, before in zip(_read(), self._began, strict=True))
        taken = wall * (psutil.cpu_count() or 1) - idle - own
        self.cpus = max(taken / wall, 0.0) if wall else 0.0


def _read() -> tuple[float, float, float]:
    """Return the time, and in seconds of one CPU the idle time of all and the own time of this process."""
    machine, mine = psutil.cpu_times(), psutil.Process().cpu_times()
    idle = machine.idle + getattr(machine, "iowait", 0.0)
    own = mine.user + mine.system + mine.children_user + mine.children_system
    return time.perf_counter(), idle, own


def busy_machine(other_cpus: float, threads: int) -> str:
    """Return a sentence if the threads of a measurement cannot all have had a CPU; otherwise an empty text.

    Args:
        other_cpus: Result of :class:`OtherWork`.
        threads: Number of threads of the measurement.
    """
    present = psutil.cpu_count() or 1
    if other_cpus <= present - threads + _NEGLIGIBLE * threads:
        return ""
    return (
        f"The machine was busy: other work used {other_cpus:.1f} of its {present} CPUs while {threads} "
        f"thread{'s were' if threads > 1 else ' was'} measured. Latencies and speed-ups are not those of an "
        "idle machine: measure again with imf-deploy bench"
    )
