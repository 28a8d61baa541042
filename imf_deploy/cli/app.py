"""The commands, by name. Each module imports what is heavy when a command runs, never for ``--help``."""

from __future__ import annotations

from typing import Annotated

import typer

from imf_deploy.cli import calibrate, files, look, main_job, stages, verify
from imf_deploy.cli.config import configurable

app = typer.Typer(
    name="imf-deploy",
    help="Distil a light image classifier, strip it, and ship verified ONNX files and TensorRT engines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("distill-and-export")(configurable(main_job.distill_and_export))
app.command("train-teacher")(configurable(stages.train_teacher))
app.command("distill")(configurable(stages.distill))
app.command("qat")(configurable(stages.qat))
app.command("strip")(configurable(stages.strip))
app.command("export")(configurable(stages.export))
app.command("calibrate")(configurable(calibrate.calibrate))
app.command("verify")(configurable(verify.verify))
app.command("bench")(configurable(files.bench))
app.command("inspect")(configurable(look.inspect))
app.command("compare")(configurable(look.compare))


def _print_version(wanted: bool) -> None:
    if wanted:
        from imf_deploy import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
