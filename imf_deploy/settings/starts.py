"""Defaults of trainings that start from given weights, where they differ from those for fresh weights.

Chosen by measurement: see ``docs/pretrained.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Start:
    """A start from given weights.

    Attributes:
        option: Field that names the weights; if it is empty, the network starts fresh.
        defaults: Defaults by the names of fields. A value that the user gives takes precedence.
    """

    option: str
    defaults: Mapping[str, Any]

    def note(self, name: str) -> str:
        """Return when the default of a field applies, for ``--help``."""
        return f"{self.defaults[name]} with --{self.option.replace('_', '-')}"


TEACHER_EPOCHS = 8
TEACHER = Start(
    "teacher_weights",
    {
        "epochs": TEACHER_EPOCHS,
        "batch_size": 32,
        "lr": 0.01,
        "label_smoothing": 0.1,
    },
)
"""Fine-tuning a teacher."""
TEACHER_CHOICE = Start("teacher_weights", {"teacher_epochs": TEACHER_EPOCHS})
"""The same for a main job, which has one option for it."""

STUDENT = Start("student_weights", {"lr": 0.01})
"""Distilling a student that starts from given weights."""
