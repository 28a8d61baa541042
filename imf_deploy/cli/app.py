"""The commands, by name. Each module imports what is heavy when a command runs, never for ``--help``."""

from __future__ import annotations

import inspect
from typing import Annotated, cast

import typer

from imf_deploy.cli import calibrate, doctor, files, look, main_job, refit, stages, study, trainings, verify
from imf_deploy.cli.config import Command, configurable
from imf_deploy.processes import is_first

# Typer takes Click's errors from Click, and from 0.26 on from a copy of its own.
CommandLineError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])
"""Base of the errors of a command line that cannot be read (``ClickException``)."""

app = typer.Typer(
    name="imf-deploy",
    help="Distil a light image classifier, strip it, and ship verified ONNX files and TensorRT engines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_COMMANDS: dict[str, Command] = {
    "distill-and-export": main_job.distill_and_export,
    "train-teacher": trainings.train_teacher,
    "distill": trainings.distill,
    "qat": trainings.qat,
    "strip": stages.strip,
    "export": stages.export,
    "calibrate": calibrate.calibrate,
    "refit-engine": refit.refit_engine,
    "verify": verify.verify,
    "bench": files.bench,
    "doctor": doctor.doctor,
    "inspect": look.inspect,
    "compare": look.compare,
    "study": study.study,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(configurable(_command))


def options_of(command: str) -> set[str]:
    """Return the long names of a command's options; none where there is no such command."""
    known = inspect.signature(_COMMANDS[command]).parameters if command in _COMMANDS else {}
    return {f"--{name.replace('_', '-')}" for name in known}


def all_options() -> set[str]:
    """Return the long names of the options of all commands."""
    return set().union(*map(options_of, _COMMANDS))


def _print_version(wanted: bool) -> None:
    if wanted:
        from imf_deploy import __version__

        typer.echo(__version__)
        raise typer.Exit


_TOGETHER = ("distill-and-export", "train-teacher", "distill", "qat")


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if not is_first() and context.invoked_subcommand not in _TOGETHER:
        raise typer.Exit  # several processes were started for what one does
