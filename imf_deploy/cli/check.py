"""``imf-deploy check``: whether a file works in other runtimes and on other processors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import imf_deploy.cli.options as o
from imf_deploy.settings.check import CheckSettings


def check(
    file: Annotated[Path, Parameter(help="An ONNX file.")],
    /,
    *,
    config: CheckSettings = CheckSettings(),
    preprocess: Annotated[
        Path | None, Parameter(help="JSON with the preprocessing, for a model that does not carry it.")
    ] = None,
    logits: o.Logits = "",
    json_file: Annotated[Path | None, o.to("JSON file to write.", "--json")] = None,
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Load a file in other runtimes and on other processors, and compare the answers.

    Each runtime is installed into a temporary environment; without a registry,
    tables decide, and the table says so.

    Exits with 3 if the file is refused or answers otherwise somewhere, and with
    4 if a runtime could not be checked.
    """
    from rich.console import Console

    from imf_deploy.checking.result import render
    from imf_deploy.checking.stage import check as run
    from imf_deploy.files import write_json

    o.check_free("--json", json_file, overwrite)
    checked = run(file, config, preprocess, logits)
    Console(highlight=False).print(render(checked))
    if json_file:
        write_json(json_file, checked.to_dict())
    checked.raise_for_failures()
