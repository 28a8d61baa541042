"""How close a file's logits are to the PyTorch model's, and how accurate both are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imf_deploy import defaults
from imf_deploy.evaluate import wilson_interval

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tolerance:
    """What a precision may change.

    Attributes:
        relative: Largest logit difference, relative to the largest PyTorch logit (at least 1).
        agreement: Smallest part of images on which both choose the same class.
        accuracy_drop: Largest loss of accuracy, in points.
    """

    relative: float
    agreement: float
    accuracy_drop: float = 100.0


# fp32 differs by the order of sums alone; fp16 keeps 11 bits of each product and sum. int8 keeps
# decisions, not logits: accuracy and agreement are its gate, and logits only show what is broken.
TOLERANCES = {
    "fp32": Tolerance(1e-4, 0.999),
    "fp16": Tolerance(2e-2, 0.99),
    "int8": Tolerance(1.0, defaults.MIN_AGREEMENT, defaults.MAX_ACCURACY_DROP),
}


@dataclass(frozen=True)
class Parity:
    """A file against its PyTorch model, on the same images.

    Attributes:
        images: How many.
        max_abs_diff: Largest absolute difference of any logit.
        mean_abs_diff: Mean absolute difference of all logits.
        cosine: Cosine of the angle between all logits of one and of the other.
        agreement: Part of the images on which both choose the same class.
        accuracy: Of the file, from 0 to 1.
        accuracy_interval: Its 95 % confidence interval (Wilson).
        pytorch_accuracy: Of the PyTorch model.
        pytorch_accuracy_interval: Its 95 % confidence interval.
        tolerance: Largest difference that its precision allows.
        min_agreement: Smallest agreement that its precision allows.
        max_accuracy_drop: Largest loss of accuracy that its precision allows, in points.
    """

    images: int
    max_abs_diff: float
    mean_abs_diff: float
    cosine: float
    agreement: float
    accuracy: float
    accuracy_interval: tuple[float, float]
    pytorch_accuracy: float
    pytorch_accuracy_interval: tuple[float, float]
    tolerance: float
    min_agreement: float
    max_accuracy_drop: float = 100.0

    @property
    def reason(self) -> str:
        """Why the file fails; empty where it passes."""
        if not np.isfinite(self.max_abs_diff):
            return "some logits are not finite"
        if self.max_abs_diff > self.tolerance:
            return (
                f"largest logit difference {self.max_abs_diff:.2g} is over the tolerance {self.tolerance:.2g}"
            )
        if self.agreement < self.min_agreement:
            return f"top-1 agreement {self.agreement:.2%} is below {self.min_agreement:.2%}"
        drop = (self.pytorch_accuracy - self.accuracy) * 100
        # A drop of exactly what is allowed must not fail by its rounding.
        if drop > self.max_accuracy_drop + 1e-9:
            return f"accuracy falls by {drop:.2f} points, and {self.max_accuracy_drop:g} are allowed"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return the form that sidecars and reports hold."""
        return asdict(self)


def compare(
    logits: Array,
    pytorch: Array,
    labels: npt.NDArray[np.int64],
    precision: str,
    gate: Mapping[str, float] | None = None,
) -> Parity:
    """Compare the logits of a file with the PyTorch model's.

    Args:
        logits: Of the file, ``[N, classes]``.
        pytorch: Of the PyTorch model, ``[N, classes]``.
        labels: Right classes, ``[N]``.
        precision: Key of :data:`TOLERANCES`.
        gate: ``min_agreement`` and ``max_accuracy_drop`` that the file was made for, instead of those.
    """
    tolerance = TOLERANCES[precision]
    if gate:
        tolerance = Tolerance(tolerance.relative, gate["min_agreement"], gate["max_accuracy_drop"])
    wide, reference = logits.astype(np.float64), pytorch.astype(np.float64)
    difference = np.abs(wide - reference)
    with np.errstate(invalid="ignore"):  # infinities: the reason says so, a warning need not
        norms = float(np.linalg.norm(wide) * np.linalg.norm(reference))
        product = float((wide * reference).sum())
    chosen, expected = logits.argmax(1), pytorch.argmax(1)
    accuracy, pytorch_accuracy = float((chosen == labels).mean()), float((expected == labels).mean())
    return Parity(
        images=len(labels),
        max_abs_diff=float(difference.max()),
        mean_abs_diff=float(difference.mean()),
        cosine=product / norms if norms else 0.0,
        agreement=float((chosen == expected).mean()),
        accuracy=accuracy,
        accuracy_interval=wilson_interval(accuracy, len(labels)),
        pytorch_accuracy=pytorch_accuracy,
        pytorch_accuracy_interval=wilson_interval(pytorch_accuracy, len(labels)),
        tolerance=tolerance.relative * max(float(np.abs(reference).max()), 1.0),
        min_agreement=tolerance.agreement,
        max_accuracy_drop=tolerance.accuracy_drop,
    )
