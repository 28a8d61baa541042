"""The parity ladder: each form of a network compared with the preceding one, from the training graph on.

    training graph -> stripped -> folded -> ONNX fp32 -> ONNX fp16 or int8 -> engine

The first rung that breaks shows where a network went wrong.
"""

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
CALIBRATED = "calibrated"
"""The last layer divided by the temperature of calibrated confidences."""
GIVEN = "given module"
"""The first rung of a network that was not stripped."""
NOT_STRIPPED = "strip: not applicable"


@dataclass(frozen=True)
class Tolerance:
    """Maximum change in one step.

    Attributes:
        relative: Largest logit difference, relative to the largest logit before the step (at least 1).
        agreement: Minimum fraction of images on which both choose the same class.
    """

    relative: float
    agreement: float = 0.0


# Another library computes the same sums in another order; fp16 keeps 11 bits of each product and sum. INT8
# preserves decisions, not logits: the gate judges it, and its logits only show gross errors (in
# docs/quantization.md they change by less than a tenth of the largest, and in a dead network by all of it).
# Those of engines are what their arithmetic allows: no GPU was available to measure them.
TOLERANCES = {
    ("onnx", "fp32"): Tolerance(1e-4, 0.999),
    ("onnx", "fp16"): Tolerance(2e-2, 0.99),
    ("onnx", "int8"): Tolerance(0.5),
    ("engine", "fp32"): Tolerance(1e-3, 0.999),
    ("engine", "fp16"): Tolerance(2e-2, 0.99),
    ("engine", "int8"): Tolerance(0.5, 0.9),
}
# Folding computes sums in another order. The tolerance of a network that is cut but not folded is 0.
FOLD = Tolerance(1e-5)
SAME = Tolerance(0.0)


def rung_name(file_format: str, precision: str, target: str = "") -> str:
    """Return the name of a file's rung: ``ONNX fp16``, ``ONNX int8 for tensorrt``, ``engine fp16``."""
    name = f"{'ONNX' if file_format == 'onnx' else 'engine'} {precision}"
    return f"{name} for {target}" if target else name


def file_tolerance(file_format: str, precision: str) -> Tolerance:
    """Return the maximum change of a file relative to the preceding rung.

    Raises:
        ImfDeployError: there is no such precision.
    """
    try:
        return TOLERANCES["onnx" if file_format == "onnx" else "engine", precision]
    except KeyError:
        raise ImfDeployError(f"there is no precision '{precision}'", "Create the file again") from None


def step(
    name: str, against: str, logits: Array, before: Array, tolerance: Tolerance, task: Task = CLASSIFICATION
) -> Rung:
    """Compare the logits of one form of a network with those of the preceding form.

    Args:
        name: Name of this rung.
        against: Name of the preceding rung.
        logits: Logits of this rung, ``[N, classes]``.
        before: Logits of the preceding rung, for the same images.
        tolerance: Maximum change.
        task: Defines which answers are the same.
    """
    wide, reference = logits.astype(np.float64), before.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinities are reported in the reason
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
