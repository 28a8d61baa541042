"""Defaults of trainings that start from given weights, where they differ from those for fresh weights.

Chosen by measurement: see ``docs/pretrained.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Start:
    """A start from given weights.

    Attributes:
        option: Field that names the weights; if it is empty, the network starts fresh.
        defaults: Defaults by the names of fields. A value that the user gives takes precedence.
        sgd: Those that differ if the user chooses SGD instead of AdamW.
    """

    option: str
    defaults: Mapping[str, Any]
    sgd: Mapping[str, Any] = field(default_factory=dict)

    def filled(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return given values, with the defaults of the start for the others if its option is given."""
        if not values.get(self.option):
            return {**values}
        own = self.sgd if values.get("optimizer") == "sgd" else {}
        return {**self.defaults, **own, **values}

    def note(self, name: str) -> str:
        """Return when the default of a field applies, for ``--help``."""
        return f"{self.defaults[name]} with --{self.option.replace('_', '-')}"


_ADAMW: Mapping[str, Any] = {
    "optimizer": "adamw",
    "lr": 0.001,
    "weight_decay": 0.02,
    "batch_size": 32,
    "freeze": "norms",
}
_SGD: Mapping[str, Any] = {"lr": 0.01, "weight_decay": 5e-4, "freeze": "none"}

TEACHER_EPOCHS = 8
TEACHER = Start("teacher_weights", {**_ADAMW, "epochs": TEACHER_EPOCHS}, _SGD)
"""Fine-tuning a teacher."""
TEACHER_CHOICE = Start("teacher_weights", {"teacher_epochs": TEACHER_EPOCHS})
"""The same for a main job, which has one option for it."""

STUDENT = Start("student_weights", _ADAMW, _SGD)
"""Distilling a student that starts from given weights."""

STUDY = Start("student_weights", {"lr": _SGD["lr"]})
"""Every student of a study that starts from given weights; a study trains with SGD."""
