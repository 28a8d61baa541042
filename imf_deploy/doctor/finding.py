"""What was found of one part of the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One part of the machine.

    Attributes:
        found: What is there; empty where there is nothing.
        missing: What is not there, or what is wrong with it; empty where nothing is.
        command: What would bring it; empty where no command does.
    """

    found: str = ""
    missing: str = ""
    command: str = ""
