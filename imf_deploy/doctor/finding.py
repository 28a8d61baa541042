"""The finding about one part of the machine, and the table of all findings."""

from dataclasses import dataclass

from rich import box
from rich.markup import escape
from rich.table import Table


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


def render(findings: dict[str, dict[str, Finding]]) -> Table:
    """Return a row for each part: what exists, then what is missing and the command for it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("to", style="dim")
    table.add_column("part")
    table.add_column("here", overflow="fold")
    for purpose, parts in findings.items():
        for index, (part, finding) in enumerate(parts.items()):
            lines = [escape(finding.found)] if finding.found else []
            if finding.missing:
                lines.append(f"[yellow]missing:[/yellow] {escape(finding.missing)}")
            if finding.command:
                lines.append(f"[dim]type:[/dim] {escape(finding.command)}")
            table.add_row(purpose if not index else "", part, "\n".join(lines))
    return table
