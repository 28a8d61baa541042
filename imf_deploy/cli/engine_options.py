"""Options of engines; most of them are of the full TensorRT alone."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imf_deploy.cli.options import EXPORT

if TYPE_CHECKING:
    pass


class Hardware(StrEnum):
    """Which GPUs an engine of the full TensorRT is for, besides the one at hand."""

    AMPERE = "ampere+"


VersionCompatible = Annotated[
    bool,
    typer.Option(
        "--version-compatible",
        help="Engines that later versions of the same major TensorRT load too (full TensorRT).",
        rich_help_panel=EXPORT,
    ),
]
HardwareCompatible = Annotated[
    Hardware | None,
    typer.Option(
        "--hardware-compatible",
        help="Engines that other GPUs run too, Ampere and newer; may be slower (full TensorRT).",
        rich_help_panel=EXPORT,
    ),
]
BuilderLevel = Annotated[
    int | None,
    typer.Option(
        "--builder-level",
        help="How much the builder tries, 0 to 5; by default TensorRT's own 3 (full TensorRT).",
        rich_help_panel=EXPORT,
    ),
]
Workspace = Annotated[
    int | None,
    typer.Option(
        "--workspace",
        help="Most scratch memory of a layer in MiB; by default the whole memory of the GPU.",
        rich_help_panel=EXPORT,
    ),
]
StripWeights = Annotated[
    bool,
    typer.Option(
        "--strip-weights",
        help="Engines that refit-engine takes, and each without weights too (full TensorRT).",
        rich_help_panel=EXPORT,
    ),
]
TimingCache = Annotated[
    Path | None,
    typer.Option(
        "--timing-cache",
        help="File that keeps the builder's timings; by default one beside the engines (full TensorRT).",
        rich_help_panel=EXPORT,
    ),
]
