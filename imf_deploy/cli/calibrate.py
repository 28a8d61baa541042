"""``imf-deploy calibrate``: an INT8 file from a float one."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imf_deploy import defaults
from imf_deploy.cli import options as o
from imf_deploy.cli.config import Settings


class Target(StrEnum):
    """Who is to run the file."""

    CPU = "onnxruntime-cpu"
    TENSORRT = "tensorrt"


class Method(StrEnum):
    """How the range of an activation is chosen."""

    MINMAX = "minmax"
    ENTROPY = "entropy"
    PERCENTILE = "percentile"
    MSE = "mse"


def calibrate(
    model: Annotated[Path, typer.Argument(help="A float32 ONNX classifier.")],
    data: Annotated[
        str,
        typer.Option(
            help="A folder or the name of a data set; empty opens what the model's record names.",
            rich_help_panel=o.DATA,
        ),
    ] = "",
    data_root: o.DataRoot = "",
    target: Annotated[Target, typer.Option(help="Who is to run the file.")] = Target.CPU,
    method: Annotated[Method, typer.Option(help="How the range of an activation is chosen.")] = Method.MINMAX,
    images: Annotated[
        int, typer.Option(help="Training images to calibrate on.")
    ] = defaults.CALIBRATION_IMAGES,
    max_accuracy_drop: o.MaxAccuracyDrop = defaults.MAX_ACCURACY_DROP,
    min_agreement: o.MinAgreement = defaults.MIN_AGREEMENT,
    int8_cpus: o.Int8CpusOption = o.Int8Cpus.ALL,
    seed: Annotated[int, typer.Option(help="Seed of the choice of images.")] = 0,
    preprocess: Annotated[
        Path | None,
        typer.Option(help="JSON with the preprocessing, for a model that does not carry it."),
    ] = None,
    logits: o.LogitsOutput = "",
    cache: Annotated[
        Path | None, typer.Option(help="File that keeps the ranges; by default in OUTPUT/calib.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; by default the model's own.")
    ] = None,
    overwrite: o.Overwrite = False,
    *,
    settings: Settings,
) -> None:
    """Write a model as INT8 that keeps to its accuracy gate, with layers left in float where needed.

    Exits with 3 if INT8 misses the gate even so.
    """
    values = locals()
    from imf_deploy.calib.model import open_float_model
    from imf_deploy.calib.stage import calibrate as run
    from imf_deploy.cli.read import model_data, read
    from imf_deploy.files import write_yaml
    from imf_deploy.progress import say
    from imf_deploy.settings import Gate, QuantizeSettings

    config = read(QuantizeSettings, values, gate=read(Gate, values))
    opened = model_data(open_float_model(model, preprocess, logits).artifact, data, data_root)
    made = run(model, opened, config, output or model.parent, preprocess, cache, overwrite, logits)
    write_yaml(made.path.with_suffix(".config.yaml"), settings)
    if not (about := made.calibration):
        return
    result = about.validation
    say(
        f"{made.path}: {result.accuracy:.2%} of {result.images} validation images, "
        f"float {result.float_accuracy:.2%}, agreement {result.agreement:.2%}, "
        f"{len(about.float_layers)} of {about.layers} layers in float"
    )
    worst = ", ".join(f"{harm.layer} ({harm.divergence:.2g})" for harm in about.sensitivity[:3])
    say(f"Most sensitive layers (divergence that each one alone causes): {worst}")
