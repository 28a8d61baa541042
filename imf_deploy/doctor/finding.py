"""The finding about one part of the machine."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One part of the machine.

    Attributes:
        found: What exists; empty if nothing does.
        missing: What is missing or wrong; empty if nothing is.
        command: Command that installs or repairs it; empty if there is none.
    """

    found: str = ""
    missing: str = ""
    command: str = ""
