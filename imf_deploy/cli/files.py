"""``imf-deploy bench``: the latency of deployable files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imf_deploy.cli import options as o

WAYS = "How files are run"


def bench(
    files: Annotated[list[Path], typer.Argument(help="ONNX files, engines, weights of stripped students.")],
    batch: Annotated[str, typer.Option(help="Batch sizes, such as 1,8,32.")] = "1",
    threads: o.Threads = 0,
    duration: Annotated[float, typer.Option(help="Least seconds that each row is measured for.")] = 3.0,
    iterations: Annotated[int, typer.Option(help="Least number of inferences of each row.")] = 10,
    warmup: Annotated[float, typer.Option(help="Least seconds of warm-up after each load.")] = 0.1,
    loads: Annotated[int, typer.Option(help="How often each file is loaded; to compare takes 6.")] = 20,
    image_size: Annotated[int, typer.Option(help="Side in pixels, where a file leaves it open.")] = 0,
    baseline: Annotated[
        str, typer.Option(help="File or row that ratios are against; empty takes the first.")
    ] = "",
    runtime: Annotated[
        str, typer.Option(help="For ONNX files: onnxruntime, openvino, or both.", rich_help_panel=WAYS)
    ] = "onnxruntime",
    provider: Annotated[
        str,
        typer.Option(
            help="For ONNX Runtime: cpu, cuda, tensorrt, rtx; empty follows --device.", rich_help_panel=WAYS
        ),
    ] = "",
    pytorch: Annotated[
        str,
        typer.Option(help="For weights: eager, channels-last, compile, max-autotune.", rich_help_panel=WAYS),
    ] = "channels-last",
    device: Annotated[
        str, typer.Option(help="For weights and ONNX files: cpu, cuda, cuda:1 …", rich_help_panel=WAYS)
    ] = "cpu",
    cuda_graph: Annotated[
        str, typer.Option(help="For engines, and weights on CUDA: on, off, or both.", rich_help_panel=WAYS)
    ] = "on,off",
    logits: o.LogitsOutput = "",
    startup: Annotated[
        bool, typer.Option(help="Load time, first inference and memory, in a process for each row.")
    ] = True,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers", help="List the layers of engines: types, tactics, time.", show_default=False
        ),
    ] = False,
    clients: Annotated[
        str, typer.Option(help="Numbers of clients that send requests at the same time, such as 2,8.")
    ] = "",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file to write.")] = None,
    overwrite: o.Overwrite = False,
) -> None:
    """Measure the latency of files, interleaved; several ways of one file are several rows.

    Exits with 4 if this machine cannot run one.
    """
    from rich.console import Console

    from imf_deploy.benchmark.layers import render_layers
    from imf_deploy.benchmark.stage import bench as run
    from imf_deploy.benchmark.table import beside, render, render_clients
    from imf_deploy.benchmark.ways import Choice
    from imf_deploy.cli.words import check_free, names, positive_numbers
    from imf_deploy.errors import UsageError
    from imf_deploy.files import write_json
    from imf_deploy.progress import say

    check_free("--output", output, overwrite)
    sizes = positive_numbers("--batch", batch)
    if threads < 0 or image_size < 0:
        raise UsageError("--threads and --image-size must not be below 0", "Leave them out")
    choice = Choice(
        threads or None, device, names(runtime), names(provider), names(pytorch), names(cuda_graph), logits
    )
    say(f"Measuring each row for {duration + loads * warmup:.0f} s or more at each batch size")
    result = run(
        files,
        choice,
        batch_sizes=sizes,
        duration_s=duration,
        iterations=iterations,
        warmup_s=warmup,
        loads=loads,
        image_size=image_size or None,
        baseline=baseline,
        startup=startup,
        layers=layers,
        clients=positive_numbers("--clients", clients) if clients else (),
    )
    Console().print(render(result))
    for line in beside(result):
        Console().print(line, markup=False, highlight=False)
    if clients:
        Console().print(render_clients(result))
    for row in result.rows:
        if row.layers:
            Console().print(render_layers(row.name, row.latency.images, row.layers))
    if output:
        write_json(output, result.to_dict())
