"""``imf-deploy doctor``: reports what this machine can do."""

from __future__ import annotations

import sys
from typing import Annotated

import imf_deploy.cli.options as o


def doctor(
    *,
    json: Annotated[bool, o.flag("Print JSON instead of a table.", "--json")] = False,
    common: o.Common = o.Common(),
) -> None:
    """List what this machine can build, run and measure, what is missing, and how to install it."""
    from pathlib import Path

    from imf_deploy.doctor.examine import examine, to_dict

    findings = examine(Path.cwd())
    if json:
        import json as encoder

        sys.stdout.write(encoder.dumps(to_dict(findings), indent=2, ensure_ascii=False) + "\n")
        return
    from rich.console import Console

    from imf_deploy.doctor.table import render

    Console().print(render(findings))
