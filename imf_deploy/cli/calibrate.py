"""``imf-deploy calibrate``: makes an INT8 file from a float one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import imf_deploy.cli.options as o
from imf_deploy.settings import QuantizeSettings
from imf_deploy.settings.data import PlaceSettings


def calibrate(
    model: Annotated[Path, Parameter(help="A float32 ONNX classifier.")],
    /,
    *,
    config: QuantizeSettings = QuantizeSettings(),
    place: PlaceSettings = PlaceSettings(),
    preprocess: Annotated[
        Path | None, Parameter(help="JSON with the preprocessing, for a model that does not carry it.")
    ] = None,
    logits: o.Logits = "",
    cache: Annotated[
        Path | None, Parameter(help="File to cache the ranges in; by default in OUTPUT/calib.")
    ] = None,
    output: Annotated[Path | None, o.to("Folder to write to; by default the model's own.")] = None,
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Quantise a model to INT8 within an accuracy gate, keeping sensitive layers in float where needed.

    Exits with 3 if INT8 misses the gate nevertheless.
    """
    from imf_deploy.calib.model import open_float_model
    from imf_deploy.calib.stage import calibrate as run
    from imf_deploy.cli.model_data import model_data
    from imf_deploy.files import write_yaml
    from imf_deploy.progress import say

    opened = model_data(open_float_model(model, preprocess, logits).artifact, place)
    made = run(model, opened, config, output or model.parent, preprocess, cache, overwrite, logits)
    write_yaml(made.path.with_suffix(".config.yaml"), common.settings)
    if not (about := made.calibration):
        return
    result = about.validation
    say(
        f"{made.path}: {result.accuracy:.2%} of {result.images} validation images, "
        f"float {result.float_accuracy:.2%}, agreement {result.agreement:.2%}, "
        f"{len(about.float_layers)} of {about.layers} layers in float"
    )
    worst = ", ".join(f"{harm.layer} ({harm.divergence:.2g})" for harm in about.sensitivity[:3])
    say(f"Most sensitive layers (divergence caused by each one alone): {worst}")
