"""``imf-deploy bench``: the latency of deployable files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imf_deploy.cli import options as o


def bench(
    files: Annotated[list[Path], typer.Argument(help="ONNX files and engines; the first is the baseline.")],
    batch: Annotated[str, typer.Option(help="Batch sizes, such as 1,8,32.")] = "1",
    threads: o.Threads = 0,
    duration: Annotated[float, typer.Option(help="Least seconds that each file is measured for.")] = 3.0,
    iterations: Annotated[int, typer.Option(help="Least number of inferences of each file.")] = 10,
    warmup: Annotated[float, typer.Option(help="Least seconds of warm-up.")] = 0.2,
    image_size: Annotated[int, typer.Option(help="Side in pixels, where a file leaves it open.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file to write.")] = None,
    overwrite: o.Overwrite = False,
) -> None:
    """Measure the latency of files, interleaved. Exits with 4 if this machine cannot run one."""
    from rich.console import Console

    from imf_deploy.bench.stage import bench as run
    from imf_deploy.bench.stage import render
    from imf_deploy.cli.read import positive_numbers
    from imf_deploy.errors import UsageError
    from imf_deploy.files import write_json
    from imf_deploy.progress import say

    if output and output.exists() and not overwrite:
        raise UsageError(f"--output {output} is there already", "Give another name, or --overwrite")
    sizes = positive_numbers("--batch", batch)
    say(f"Measuring, at least {len(files) * len(sizes) * (duration + warmup):.0f} s")
    result = run(
        files,
        batch_sizes=sizes,
        threads=threads or None,
        duration_s=duration,
        iterations=iterations,
        warmup_s=warmup,
        image_size=image_size or None,
    )
    Console().print(render(result))
    if output:
        write_json(output, result.to_dict())
