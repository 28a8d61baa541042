"""The gate that every deployable file has to pass: how much accuracy it may lose."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from imf_deploy.settings.base import settings

# Rounding of fractions such as 0.97 must not decide the result.
_EPSILON = 1e-9


@settings("Export")
class Gate:
    """How much a file may lose against its float model on the same images."""

    max_accuracy_drop: Annotated[
        float,
        Field(ge=0, le=100, description="Gate: largest loss of accuracy against PyTorch, in points."),
    ] = 1.0
    min_agreement: Annotated[
        float,
        Field(
            ge=0, le=1, description="Gate: smallest part of the images that keep their class, from 0 to 1."
        ),
    ] = 0.97

    def reason(self, accuracy: float, reference: float, agreement: float) -> str:
        """Return why a file does not pass, and by how much; empty if it passes.

        Args:
            accuracy: Accuracy of the file, from 0 to 1.
            reference: Accuracy of the float model.
            agreement: Part of the images on which both choose the same class.
        """
        drop = (reference - accuracy) * 100
        if drop > self.max_accuracy_drop + _EPSILON:
            return (
                f"accuracy falls by {drop:.2f} points from {reference:.2%}, "
                f"and {self.max_accuracy_drop:g} are allowed"
            )
        if agreement < self.min_agreement - _EPSILON:
            return f"top-1 agreement {agreement:.2%} is below {self.min_agreement:.2%}"
        return ""
