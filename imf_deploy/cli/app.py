"""The commands, by name. Modules import heavy packages when a command runs, never for ``--help``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from functools import cache
from inspect import BoundArguments
from inspect import Parameter as Signed
from typing import Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import ValidationError
from pydantic import ValidationError as SettingsError

from imf_deploy import __version__
from imf_deploy.cli.check import check
from imf_deploy.cli.config import Sources
from imf_deploy.cli.look import bench, compare, doctor, inspect
from imf_deploy.cli.main_job import distill_and_export
from imf_deploy.cli.options import Common
from imf_deploy.cli.package import package
from imf_deploy.cli.plan import plan
from imf_deploy.cli.serve import compare_files, evaluate, predict
from imf_deploy.cli.stages import calibrate, export, refit_engine, strip, to_fp16
from imf_deploy.cli.trainings import distill, qat, study, train_teacher
from imf_deploy.cli.verify import verify
from imf_deploy.errors import UsageError
from imf_deploy.processes import is_first
from imf_deploy.settings.base import option_values, plain, problem

_sources = Sources()
app = App(
    name="imf-deploy",
    help="Distil a light image classifier, strip it, and ship verified ONNX files and TensorRT engines.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative_iterable=(), allow_repeating=True),
    config=[_sources],
    print_error=False,
    exit_on_error=False,
)
COMMANDS: dict[str, Any] = {
    "plan": plan,
    "distill-and-export": distill_and_export,
    "train-teacher": train_teacher,
    "distill": distill,
    "qat": qat,
    "strip": strip,
    "export": export,
    "calibrate": calibrate,
    "to-fp16": to_fp16,
    "refit-engine": refit_engine,
    "package": package,
    "verify": verify,
    "check": check,
    "bench": bench,
    "predict": predict,
    "evaluate": evaluate,
    "compare-files": compare_files,
    "doctor": doctor,
    "inspect": inspect,
    "compare": compare,
    "study": study,
}
for _name, _command in COMMANDS.items():
    app.command(_command, name=_name, alias="quantize" if _name == "calibrate" else None)
app.register_install_completion_command()

_TOGETHER = ("distill-and-export", "train-teacher", "distill", "qat")
# The place of a run, and whether it replaces another one, are not settings of the run.
_NOT_RECORDED = {"config", "output", "overwrite"}


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return the exit code.

    Raises:
        UsageError: the arguments do not fit any command.
    """
    if not arguments:
        app.help_print([])
        return UsageError.exit_code
    page = f"imf-deploy {arguments[0]}" if arguments[0] in COMMANDS else "imf-deploy"
    try:
        command, bound, _ = app.parse_args(arguments)
    except CycloptsError as error:
        what, hint = _explain(error)
        raise UsageError(what, f"{hint}See {page} --help") from error
    if not is_first() and arguments[0] not in _TOGETHER:
        return 0  # the command needs one process only
    bound.apply_defaults()
    values = bound.arguments
    if isinstance(common := values.get("common"), Common):
        line = shlex.join(["imf-deploy", *arguments])
        values["common"] = replace(common, settings=_recorded(bound), given=_sources.given, command=line)
    command(*bound.args, **bound.kwargs)
    return 0


@cache
def options_of(command: str) -> set[str]:
    """Return the long names of a command's options; an empty set for an unknown command."""
    if command not in COMMANDS:
        return set()
    return {argument.name for argument in app[command].assemble_argument_collection() if argument.parse}


@cache
def all_options() -> set[str]:
    """Return the long names of the options of all commands."""
    return set().union(*map(options_of, COMMANDS))


def _explain(error: CycloptsError) -> tuple[str, str]:
    """Return what is wrong with a command line, and a hint, without the reference to its help."""
    if isinstance(error, ValidationError) and isinstance(error.__cause__, SettingsError):
        what, hint = problem(error.__cause__)
        name = str(error.__cause__.errors()[0]["loc"][0]).replace("_", "-")
        if name in _sources.read and name not in _sources.given:
            what = f"--config {_sources.path}: {name}: {_sources.read[name]} cannot be used ({what})"
        return what, f"{hint}. " if hint else ""
    what, guess, near = " ".join(str(error).split()).partition(" Did you mean ")
    return what.rstrip("."), f"{guess.strip()} {near} ".lstrip()


def _recorded(bound: BoundArguments) -> dict[str, Any]:
    """Return the options of a command for its record, by their names."""
    options: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if isinstance(value, Common) or kind is Signed.POSITIONAL_ONLY:
            continue
        if is_dataclass(value):
            options |= option_values(value)
        elif value not in (None, ()):
            options[name.replace("_", "-")] = plain(value)
    return {name: value for name, value in options.items() if name not in _NOT_RECORDED}
