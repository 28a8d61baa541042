"""Commands that read existing files and runs: ``inspect`` and ``compare``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

import imf_deploy.cli.options as o
from imf_deploy.cli.words import check_free
from imf_deploy.settings.compare import Budget


def inspect(
    file: Annotated[
        Path,
        Parameter(help="An ONNX file, an engine, safetensors, a record, or the folder of a run."),
    ],
    /,
    *,
    as_json: Annotated[bool, o.flag("Print JSON.", "--json")] = False,
    common: o.Common = o.Common(),
) -> None:
    """Show what a file is without running it. No engine is loaded, no pickle opened."""
    import json

    from imf_deploy.inspection import inspect as run
    from imf_deploy.inspection.render import render

    finding = run(file)
    if as_json:
        sys.stdout.write(json.dumps(finding.to_dict(), indent=2) + "\n")
    else:
        Console(highlight=False).print(render(finding))


def compare(
    runs: Annotated[tuple[Path, ...], Parameter(help="Folders of runs, or their report.json files.")],
    /,
    *,
    budget: Budget = Budget(),
    json_file: Annotated[Path | None, o.to("JSON file to write.", "--json")] = None,
    html_file: Annotated[Path | None, o.to("HTML page to write.", "--html")] = None,
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Compare the files of several runs and choose one, within a budget if one is given.

    Exits with 3 if no file fits the budget.
    """
    from rich.console import Console

    from imf_deploy.comparison.page import render_page
    from imf_deploy.comparison.render import render
    from imf_deploy.comparison.stage import compare as run
    from imf_deploy.errors import GateError
    from imf_deploy.files import write_json, write_text

    for option, path in (("--json", json_file), ("--html", html_file)):
        check_free(option, path, overwrite)
    comparison = run(runs, budget)
    Console(highlight=False).print(render(comparison))
    if json_file:
        write_json(json_file, comparison.to_dict())
    if html_file:
        write_text(html_file, render_page(comparison))
    if comparison.missed:
        raise GateError(
            comparison.choice.sentence.rstrip("."), "Widen the budget, or train a lighter student"
        )
