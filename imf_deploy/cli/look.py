"""``imf-deploy inspect``, ``compare``, ``bench`` and ``doctor``: commands that look at files and machines."""

from __future__ import annotations

import json as encoder
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

import imf_deploy.cli.options as o
from imf_deploy.files import write_json, write_text
from imf_deploy.settings.bench import BenchSettings
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
    from imf_deploy.inspection import inspect as run
    from imf_deploy.inspection.render import render

    finding = run(file)
    if as_json:
        sys.stdout.write(encoder.dumps(finding.to_dict(), indent=2) + "\n")
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

    for option, path in (("--json", json_file), ("--html", html_file)):
        o.check_free(option, path, overwrite)
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


def bench(
    files: Annotated[
        tuple[Path, ...], Parameter(help="ONNX files, engines, or weights of stripped students.")
    ],
    /,
    *,
    config: BenchSettings = BenchSettings(),
    output: Annotated[Path | None, o.to("JSON file to write.")] = None,
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Measure the latency of files in interleaved rounds. Each way of running a file is a row of its own.

    Exits with 4 if this machine cannot run one of them.
    """
    from imf_deploy.benchmark.layers import render_layers
    from imf_deploy.benchmark.stage import bench as run
    from imf_deploy.benchmark.table import beside, render, render_clients
    from imf_deploy.progress import say

    o.check_free("--output", output, overwrite)
    seconds = config.duration + config.loads * config.warmup
    say(f"Measuring each row for {seconds:.0f} s or more at each batch size")
    result = run(files, config)
    Console().print(render(result))
    for line in beside(result):
        Console().print(line, markup=False, highlight=False)
    if config.clients:
        Console().print(render_clients(result))
    for row in result.rows:
        if row.layers:
            Console().print(render_layers(row.name, row.latency.images, row.layers))
    if output:
        write_json(output, result.to_dict())


def doctor(
    *,
    json: Annotated[bool, o.flag("Print JSON instead of a table.", "--json")] = False,
    common: o.Common = o.Common(),
) -> None:
    """List what this machine can build, run and measure, what is missing, and how to install it."""
    from imf_deploy.doctor.examine import examine, to_dict

    findings = examine(Path.cwd())
    if json:
        sys.stdout.write(encoder.dumps(to_dict(findings), indent=2, ensure_ascii=False) + "\n")
        return

    from imf_deploy.doctor.finding import render

    Console().print(render(findings))
