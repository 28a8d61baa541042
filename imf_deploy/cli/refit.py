"""``imf-deploy refit-engine``: puts other weights into an existing engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import imf_deploy.cli.options as o


def refit_engine(
    engine: Annotated[Path, Parameter(help="An engine built with --strip-weights.")],
    weights: Annotated[
        Path, Parameter(help="An ONNX file or stripped weights of the same student and product.")
    ],
    /,
    *,
    output: Annotated[Path, o.to("Engine to write.")],
    trust_model: o.TrustModel = (),
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Write an engine with the weights of another student of the same architecture, in seconds.

    The engine keeps its tactics. Its outputs are compared with those of the
    weights on random images first.

    Exits with 3 if the outputs differ, and with 4 if this machine cannot run
    the engine.
    """
    from imf_deploy.pipeline.refit import refit_engine as run
    from imf_deploy.progress import say

    made = run(engine, weights, output, trust_model, overwrite)
    if proof := made.refit:
        largest = max(check.max_abs_diff or 0.0 for check in proof.checks)
        say(
            f"{made.path}: {made.path.stat().st_size:,} bytes, {made.precision}, {proof.seconds:.1f} s, "
            f"logits within {largest:.1g}"
        )
