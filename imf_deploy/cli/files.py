"""Commands that look at deployable files: ``verify`` and ``bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imf_deploy.cli import options as o


def verify(
    file: Annotated[Path, typer.Argument(help="An ONNX file or an engine that imf-deploy export wrote.")],
    against: Annotated[Path, typer.Option(help="Weights of the product that it was made from.")],
    data: o.DataNow = "",
    data_root: o.DataRoot = "",
    trust_model: o.TrustModel = None,
) -> None:
    """Run a file on the whole test split and compare it with its PyTorch model.

    Exits with 3 if it misses its gate, and with 4 if this machine cannot run it.
    """
    from imf_deploy.artifact import load_artifact
    from imf_deploy.data import reopen_data
    from imf_deploy.errors import DeviceError, GateError
    from imf_deploy.progress import say
    from imf_deploy.strip.products import load_product
    from imf_deploy.verify.stage import evaluate_product
    from imf_deploy.verify.stage import verify as run

    product, artifact = load_product(against, trust_model or ()), load_artifact(file)
    opened = reopen_data(product.artifact.evidence["data_config"], data, data_root)
    product = evaluate_product(product, opened)
    result = run(product, [artifact], opened)[0].evidence["verify"]
    if result["status"] == "not-run":
        raise DeviceError(
            f"{file} was not run: {result['reason']}", "Verify it on a machine with an NVIDIA GPU"
        )
    low, high = result["accuracy_interval"]
    say(
        f"{file}: {result['accuracy']:.2%} of {result['images']} test images ({low:.2%} to {high:.2%}), "
        f"PyTorch {result['pytorch_accuracy']:.2%}, agreement {result['agreement']:.2%}, "
        f"largest difference {result['max_abs_diff']:.2g} (allowed {result['tolerance']:.2g}), "
        f"mean {result['mean_abs_diff']:.2g}, cosine {result['cosine']:.6f}"
    )
    if result["status"] == "fail":
        raise GateError(f"{file} missed its gate: {result['reason']}", "Export it again, or do not ship it")


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
