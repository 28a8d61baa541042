"""Energy of the processor, if the kernel allows reading it (RAPL through powercap)."""

from dataclasses import dataclass
from pathlib import Path

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
