"""Options of several commands that are not settings: where to write, and what may be run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

Output = Annotated[Path, Parameter(name=["--output", "-o"], help="Folder to write to.")]
Overwrite = Annotated[
    bool, Parameter(help="Replace what another run left there.", negative=(), show_default=False)
]
TrustModel = Annotated[
    tuple[str, ...],
    Parameter(
        help="package.module:factory that a file's record names, and that may be run.", show_default=False
    ),
]
Preset = Annotated[
    str,
    Parameter(
        help="Pair and published recipe, such as cifar100/resnet56-resnet20 or imagenet/resnet34-resnet18; "
        "other options win.",
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
    """Return a flag that is off unless it is given."""
    return Parameter(name=names or None, help=help, negative=(), show_default=False)


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """What every command has.

    Attributes:
        config: A file of options.
        settings: What the options of the command came to, by their names without dashes.
        given: Names of the options that the command line itself gives, without dashes.
        command: The command as it was typed.
    """

    config: Annotated[
        Path | None,
        Parameter(help="YAML file of options, by their names without dashes; the command line wins."),
    ] = None
    settings: Annotated[dict[str, Any], Parameter(parse=False)] = field(default_factory=dict)
    given: Annotated[frozenset[str], Parameter(parse=False)] = frozenset()
    command: Annotated[str, Parameter(parse=False)] = ""
