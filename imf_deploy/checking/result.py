"""The result of a check: one verdict for each runtime and processor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Group
from rich.text import Text

from imf_deploy.errors import DeviceError, GateError, visible
from imf_deploy.show.columns import Cell, Column, FittingTable, Section
from imf_deploy.show.format import UNKNOWN, difference, percent

SCHEMA = 1
State = Literal["agrees", "parses", "expected", "differs", "refused", "unchecked"]
Basis = Literal["run", "parser", "table", "none"]
_STYLES: dict[str, str] = {
    "agrees": "green", "parses": "green", "expected": "yellow", "differs": "bold red", "refused": "bold red",
    "unchecked": "yellow",
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What a file does in one runtime, or on one processor.

    Attributes:
        target: The runtime or the processor.
        state: ``agrees`` and ``differs`` after a run, ``parses`` if the runtime read the file and could not
            run it here, ``expected`` by a table, ``refused``, or ``unchecked``.
        basis: What that rests on.
        reason: Why; empty if the file agrees.
        agreement: Fraction of images with the same class as in ONNX Runtime here; ``None`` without a run.
        max_abs_diff: Largest difference of an output; ``None`` without a run.
    """

    target: str
    state: State
    basis: Basis
    reason: str = ""
    agreement: float | None = None
    max_abs_diff: float | None = None

    @property
    def code(self) -> int:
        """Exit code for this runtime alone: 0, 3 if the file fails there, 4 if it was not checked."""
        if self.state in ("differs", "refused"):
            return GateError.exit_code
        return DeviceError.exit_code if self.state == "unchecked" else 0


@dataclass(frozen=True)
class Checked:
    """The verdicts about a file.

    Attributes:
        path: The file.
        sha256: Its hash.
        images: The input that answers were compared on, in words.
        verdicts: One for each runtime and processor, in the order of the request.
    """

    path: Path
    sha256: str
    images: str
    verdicts: tuple[Verdict, ...]

    def raise_for_failures(self) -> None:
        """Raise if the file fails in a runtime, or if one could not be checked.

        Raises:
            GateError: it is refused or answers otherwise somewhere.
            DeviceError: a runtime could not be checked here.
        """
        for code, error, what in (
            (GateError.exit_code, GateError, "does not work in"),
            (DeviceError.exit_code, DeviceError, "could not be checked in"),
        ):
            if found := [each.target for each in self.verdicts if each.code == code]:
                raise error(f"{self.path} {what} {', '.join(found)}", "The reasons are below the table")

    def to_dict(self) -> dict[str, Any]:
        """Return the form for JSON."""
        return {
            "schema": SCHEMA,
            "file": str(self.path),
            "sha256": self.sha256,
            "images": self.images,
            "verdicts": [{**vars(each), "exit_code": each.code} for each in self.verdicts],
        }


def render(checked: Checked) -> Group:
    """Return the verdicts as a table for a rich console, with the reasons below it."""
    columns = (
        Column("where", "left"),
        Column("verdict", "left"),
        Column("by", "left"),
        Column("agrees"),
        Column("max diff", spare=1),
    )
    rows: list[list[Cell]] = [
        [
            each.target,
            (each.state, _STYLES[each.state]),
            each.basis,
            percent(each.agreement, 2) if each.agreement is not None else UNKNOWN,
            difference(each.max_abs_diff),
        ]
        for each in checked.verdicts
    ]
    reasons = [Text(visible(f"{each.target}: {each.reason}")) for each in checked.verdicts if each.reason]
    told = Text(f"Compared with ONNX Runtime here, on {checked.images}.")
    return Group(FittingTable(columns, [Section(checked.path.name, rows)]), told, *reasons)
