"""``imf-deploy bench``: the latency of deployable files."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import imf_deploy.cli.options as o
from imf_deploy.settings.bench import BenchSettings


def bench(
    files: Annotated[tuple[Path, ...], Parameter(help="ONNX files, engines, weights of stripped students.")],
    /,
    *,
    config: BenchSettings = BenchSettings(),
    output: Annotated[Path | None, o.to("JSON file to write.")] = None,
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Measure the latency of files, interleaved; several ways of one file are several rows.

    Exits with 4 if this machine cannot run one.
    """
    from rich.console import Console

    from imf_deploy.benchmark.layers import render_layers
    from imf_deploy.benchmark.stage import bench as run
    from imf_deploy.benchmark.table import beside, render, render_clients
    from imf_deploy.benchmark.ways import Choice
    from imf_deploy.cli.words import check_free
    from imf_deploy.files import write_json
    from imf_deploy.progress import say

    check_free("--output", output, overwrite)
    choice = Choice(
        config.threads or None,
        config.device,
        config.runtime,
        config.provider,
        config.pytorch,
        config.cuda_graph,
        config.logits,
    )
    seconds = config.duration + config.loads * config.warmup
    say(f"Measuring each row for {seconds:.0f} s or more at each batch size")
    result = run(
        files,
        choice,
        batch_sizes=config.batch,
        duration_s=config.duration,
        iterations=config.iterations,
        warmup_s=config.warmup,
        loads=config.loads,
        image_size=config.image_size or None,
        baseline=config.baseline,
        startup=config.startup,
        layers=config.layers,
        clients=config.clients,
    )
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
