"""``imf-deploy package``: folders that serving systems load as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import imf_deploy.cli.options as o
from imf_deploy.settings.data import PlaceSettings
from imf_deploy.settings.package import PackageSettings, Target


def package(
    run: Annotated[Path, Parameter(help="Output folder of imf-deploy distill-and-export.")],
    /,
    *,
    target: Annotated[Target, Parameter(name="--for", help="The system that loads the package.")],
    wanted: PackageSettings = PackageSettings(),
    place: PlaceSettings = PlaceSettings(),
    output: Annotated[
        Path | None, o.to("Folder to write; by default packages/TARGET-NAME in the run.")
    ] = None,
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Write a folder that a serving system or an application loads as it is.

    Contains the ONNX file in the form that the system needs, verified again
    with its record, ten test vectors, a card, the system's own files, and
    SHA256SUMS. It is written whole or not at all.

    Exits with 3 if a packaged file does not answer as the run's file does.
    """
    from imf_deploy.packages.folder import SUMS
    from imf_deploy.packages.stage import package as run_stage
    from imf_deploy.progress import say

    made = run_stage(run, target, output, wanted, place, overwrite)
    say(f"{made}: {len((made / SUMS).read_text().splitlines())} files, see README.md")
