"""Commands that look at what there is: ``inspect`` and ``compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    file: Annotated[
        Path,
        typer.Argument(help="An ONNX file, an engine, safetensors, a record, or the folder of a run."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Show what a file is without running it. No engine is loaded, no pickle opened."""
    import json

    from rich.console import Console

    from imf_deploy.inspection import inspect as run
    from imf_deploy.inspection.render import render

    finding = run(file)
    if as_json:
        typer.echo(json.dumps(finding.to_dict(), indent=2))
    else:
        Console(highlight=False).print(render(finding))
