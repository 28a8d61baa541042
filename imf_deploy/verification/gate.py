"""What a deployable file may cost in accuracy: the gate that every file has to pass."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from imf_deploy import defaults
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.untrusted import shorten

# Rounding of fractions such as 0.97 must not decide.
_EPSILON = 1e-9


@dataclass(frozen=True)
class Gate:
    """What a file may lose against the float model that it was made from, on the same images.

    Attributes:
        max_accuracy_drop: In points.
        min_agreement: Smallest part of the images that keep their class, from 0 to 1.
    """

    max_accuracy_drop: float = defaults.MAX_ACCURACY_DROP
    min_agreement: float = defaults.MIN_AGREEMENT

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UsageError: naming the option.
        """
        # Written so that NaN is refused as well.
        if not 0 <= self.max_accuracy_drop <= 100:
            raise UsageError(
                f"--max-accuracy-drop {self.max_accuracy_drop} is no number of points", "Give 0 to 100"
            )
        if not 0 <= self.min_agreement <= 1:
            raise UsageError(f"--min-agreement {self.min_agreement} is no part of 1", "Give 0 to 1")

    def reason(self, accuracy: float, reference: float, agreement: float) -> str:
        """Return why a file does not pass, and by how much; empty where it does.

        Args:
            accuracy: Of the file, from 0 to 1.
            reference: Of the float model.
            agreement: Part of the images on which both choose the same class.
        """
        drop = (reference - accuracy) * 100
        if drop > self.max_accuracy_drop + _EPSILON:
            return (
                f"accuracy falls by {drop:.2f} points from {reference:.2%}, "
                f"and {self.max_accuracy_drop:g} are allowed"
            )
        if agreement < self.min_agreement - _EPSILON:
            return f"{CLASSIFICATION.metric} agreement {agreement:.2%} is below {self.min_agreement:.2%}"
        return ""

    def to_dict(self) -> dict[str, float]:
        """Return the form that records hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Any) -> Self:
        """Return the gate of a record.

        Raises:
            ImfDeployError: it is not a gate: text, NaN or numbers out of range.
        """
        values = content if isinstance(content, dict) else {}
        numbers = [values.get(name) for name in ("max_accuracy_drop", "min_agreement")]
        hint = "Make the file again"
        if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
            raise ImfDeployError(f"a record holds no gate but {shorten(repr(content), 80)}", hint)
        gate = cls(*numbers)  # type: ignore[arg-type]
        try:
            gate.check()
        except UsageError as error:
            told = shorten(repr(content), 80)
            raise ImfDeployError(f"a record holds a gate that is out of range: {told}", hint) from error
        return gate
