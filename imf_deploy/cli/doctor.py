"""``imf-deploy doctor``: what this machine can do."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List what this machine can build, run and measure, what is missing, and what would bring it."""
    from pathlib import Path

    from imf_deploy.doctor.examine import examine, to_dict

    findings = examine(Path.cwd())
    if json:
        import json as encoder

        typer.echo(encoder.dumps(to_dict(findings), indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    from imf_deploy.doctor.table import render

    Console().print(render(findings))
