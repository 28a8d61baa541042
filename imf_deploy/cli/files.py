"""``imf-deploy bench``: measures the latency of deployable files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import imf_deploy.cli.options as o
from imf_deploy.settings.bench import BenchSettings


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
    from rich.console import Console

    from imf_deploy.benchmark.layers import render_layers
    from imf_deploy.benchmark.stage import bench as run
    from imf_deploy.benchmark.table import beside, render, render_clients
    from imf_deploy.cli.words import check_free
    from imf_deploy.files import write_json
    from imf_deploy.progress import say

    check_free("--output", output, overwrite)
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
