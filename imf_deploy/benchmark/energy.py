"""Energy of the processor, where the kernel lets it be read (RAPL through powercap)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class EnergyMeter:
    """Counters of all processor packages; they count what every process of the machine uses.

    Source: Linux, Documentation/power/powercap/powercap.rst. The counters move about every
    millisecond, so spans of a tenth of a second and more are meant.

    Attributes:
        counters: Path of each package's ``energy_uj`` and the value after which it starts again.
    """

    counters: tuple[tuple[Path, int], ...]

    def read(self) -> tuple[int, ...]:
        """Return the counters in microjoules."""
        return tuple(int(path.read_text()) for path, _ in self.counters)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Return the energy between two readings; each counter may have started again once."""
        spans = (
            stop - start if stop >= start else stop - start + most + 1
            for start, stop, (_, most) in zip(before, after, self.counters, strict=True)
        )
        return sum(spans) / 1e6


def find_energy_meter(root: Path = POWERCAP) -> EnergyMeter | str:
    """Return the meter of this machine, or why there is none.

    Args:
        root: Where the kernel shows its power zones.
    """
    counters = []
    # Packages alone: cores and memory lie inside them, and psys holds the whole board.
    for zone in sorted(root.glob("*")):
        try:
            if not (zone / "name").read_text().startswith("package"):
                continue
            counter = zone / "energy_uj"
            int(counter.read_text())
            counters.append((counter, int((zone / "max_energy_range_uj").read_text())))
        except PermissionError:
            return f"{zone}/energy_uj is readable for root alone"
        except (OSError, ValueError):
            continue  # a zone of another kind
    if not counters:
        return f"the kernel shows no processor package in {root} (a virtual machine, or no RAPL)"
    return EnergyMeter(tuple(counters))
