"""``imf-deploy plan``: the price of students before one of them is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import imf_deploy.cli.options as o
from imf_deploy.settings import DataSettings, PlanSettings
from imf_deploy.settings.compare import CostBudget


def plan(
    *,
    config: PlanSettings = PlanSettings(),
    data: DataSettings = DataSettings(),
    budget: CostBudget = CostBudget(),
    json_file: Annotated[Path | None, o.to("JSON file to write.", "--json")] = None,
    html_file: Annotated[Path | None, o.to("HTML page to write.", "--html")] = None,
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Measure what students cost on this machine before one is trained: latency, size and MACs.

    Every product of every student, in every width and for every image size, is
    exported with random weights in fp32 and INT8, and timed.

    Exits with 3 if no file fits the budget.
    """
    from rich.console import Console

    from imf_deploy.errors import GateError
    from imf_deploy.files import write_json, write_text
    from imf_deploy.planning.page import render_page
    from imf_deploy.planning.stage import plan as run
    from imf_deploy.planning.table import render

    for option, path in (("--json", json_file), ("--html", html_file)):
        o.check_free(option, path, overwrite)
    result = run(config, data, budget)
    Console(highlight=False).print(render(result))
    if json_file:
        write_json(json_file, result.to_dict())
    if html_file:
        write_text(html_file, render_page(result))
    if result.missed:
        raise GateError(
            result.sentence().rstrip("."), "Widen the budget, or give thinner students or smaller images"
        )
