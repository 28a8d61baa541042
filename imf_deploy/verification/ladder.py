"""The parity ladder: each form of a network against the one before it, from the training graph on.

    training graph -> stripped -> folded -> ONNX fp32 -> ONNX fp16 or int8 -> engine

A network that went wrong somewhere is found at the first rung that breaks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imf_deploy.errors import ImfDeployError
from imf_deploy.records.checks import Rung
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.tasks.task import Task

Array = npt.NDArray[np.float32]

TRAINING_GRAPH = "training graph"
STRIPPED = "stripped"
FOLDED = "folded"
GIVEN = "given module"
"""The first rung of a network that was not stripped."""
NOT_STRIPPED = "strip: not applicable"


@dataclass(frozen=True)
class Tolerance:
    """What one step may change.

    Attributes:
        relative: Largest logit difference, relative to the largest logit before the step (at least 1).
        agreement: Smallest part of images on which both choose the same class.
    """

    relative: float
    agreement: float = 0.0


# Another library runs the same sums in another order; fp16 keeps 11 bits of each product and sum.
# INT8 keeps decisions, not logits: the gate judges it, and its logits only show what is broken (they
# move by less than a tenth of the largest in docs/quantization.md's runs; a dead network by all of it).
# The engines' are what their arithmetic allows: no GPU was at hand to measure them on.
TOLERANCES = {
    ("onnx", "fp32"): Tolerance(1e-4, 0.999),
    ("onnx", "fp16"): Tolerance(2e-2, 0.99),
    ("onnx", "int8"): Tolerance(0.5),
    ("engine", "fp32"): Tolerance(1e-3, 0.999),
    ("engine", "fp16"): Tolerance(2e-2, 0.99),
    ("engine", "int8"): Tolerance(0.5, 0.9),
}
# Folding sums in another order. A network that is only cut, not folded, is held to 0.
FOLD = Tolerance(1e-5)
SAME = Tolerance(0.0)


def rung_name(file_format: str, precision: str, target: str = "") -> str:
    """Return what a file's rung is called: ``ONNX fp16``, ``ONNX int8 for tensorrt``, ``engine fp16``."""
    name = f"{'ONNX' if file_format == 'onnx' else 'engine'} {precision}"
    return f"{name} for {target}" if target else name


def file_tolerance(file_format: str, precision: str) -> Tolerance:
    """Return what a file may change against the rung before it.

    Raises:
        ImfDeployError: there is no such precision.
    """
    try:
        return TOLERANCES["onnx" if file_format == "onnx" else "engine", precision]
    except KeyError:
        raise ImfDeployError(f"there is no precision '{precision}'", "Make the file again") from None


def step(
    name: str, against: str, logits: Array, before: Array, tolerance: Tolerance, task: Task = CLASSIFICATION
) -> Rung:
    """Compare the logits of one form of a network with those of the form before it.

    Args:
        name: Of this rung.
        against: Name of the rung before.
        logits: ``[N, classes]``.
        before: Of the rung before, on the same images.
        tolerance: What the step may change.
        task: What counts as the same answer.
    """
    wide, reference = logits.astype(np.float64), before.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinities: the reason says so, a warning need not
        difference = float(np.abs(wide - reference).max())
    allowed = tolerance.relative * max(float(np.abs(reference).max()), 1.0)
    agreement = float(task.same(wide, reference).mean())
    reason = ""
    if not np.isfinite(difference):
        reason = "some logits are not finite"
    elif difference > allowed:
        reason = f"largest logit difference {difference:.2g} is over the tolerance {allowed:.2g}"
    elif agreement < tolerance.agreement:
        reason = f"{task.metric} agreement {agreement:.2%} is below {tolerance.agreement:.2%}"
    return Rung(
        name,
        against,
        "fail" if reason else "pass",
        reason,
        len(wide),
        difference,
        allowed,
        agreement,
        tolerance.agreement,
    )
