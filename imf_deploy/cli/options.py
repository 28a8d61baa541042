"""Options of several commands that are not settings: where to write, and which code is trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from imf_deploy.errors import UsageError

Output = Annotated[Path, Parameter(name=["--output", "-o"], help="Folder to write to.")]
Overwrite = Annotated[bool, Parameter(help="Replace existing files.", negative=(), show_default=False)]
TrustModel = Annotated[
    tuple[str, ...],
    Parameter(
        help="package.module:factory in a file's record that may be imported and called.", show_default=False
    ),
]
Preset = Annotated[
    str,
    Parameter(
        help="Published recipe for a teacher and a student, such as cifar100/resnet56-resnet20 or "
        "imagenet/resnet34-resnet18; other options take precedence.",
        show_default=False,
    ),
]
Logits = Annotated[
    str,
    Parameter(
        help="Output of an ONNX file that holds the logits; empty uses the one that fits the labels.",
        show_default=False,
    ),
]


def to(help: str, *names: str) -> Parameter:
    """Return an option for a place to write to."""
    return Parameter(name=names or ("--output", "-o"), help=help)


def flag(help: str, *names: str) -> Parameter:
    """Return a flag that is off by default."""
    return Parameter(name=names or None, help=help, negative=(), show_default=False)


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """What all commands have in common.

    Attributes:
        config: A file of options.
        settings: Final values of the command's options, by their names without dashes.
        given: Names of the options that the command line itself gives, without dashes.
        command: The command as it was typed.
    """

    config: Annotated[
        Path | None,
        Parameter(
            help="YAML file of options, by their names without dashes; the command line takes precedence."
        ),
    ] = None
    settings: Annotated[dict[str, Any], Parameter(parse=False)] = field(default_factory=dict)
    given: Annotated[frozenset[str], Parameter(parse=False)] = frozenset()
    command: Annotated[str, Parameter(parse=False)] = ""


def check_free(option: str, path: Path | None, overwrite: bool) -> None:
    """Check that an option's file may be written.

    Raises:
        UsageError: the file exists, and may not be replaced.
    """
    if path and path.exists() and not overwrite:
        raise UsageError(f"{option} {path} already exists", "Give another name, or --overwrite")
