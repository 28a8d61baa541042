"""The teacher-student pairs and the training recipe of Tian et al. 2019 on CIFAR-100, by name.

Source: "Contrastive Representation Distillation", tables 1 and 2, and the authors' published
settings (RepDistiller): SGD with momentum 0.9 (not Nesterov's), weight decay 5e-4, batches of 64,
240 epochs, learning rate 0.05, or 0.01 for MobileNetV2 and ShuffleNet students, divided by 10 after
epochs 150, 180 and 210; pictures padded by 4 pixels, cropped and mirrored. The weights of IMF's loss
are this project's own.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from imf_deploy import defaults
from imf_deploy.errors import UsageError

_EPOCHS = 240
_BATCH_SIZE = 64
_LR = 0.05
_LOW_LR = 0.01
_LOW = ("mobilenetv2", "shufflenetv1", "shufflenetv2")

_PAIRS = (
    # table 1: teacher and student of one kind
    ("wrn-40-2", "wrn-16-2"), ("wrn-40-2", "wrn-40-1"), ("resnet56", "resnet20"), ("resnet110", "resnet20"),
    ("resnet110", "resnet32"), ("resnet32x4", "resnet8x4"), ("vgg13", "vgg8"),
    # table 2: of different kinds
    ("vgg13", "mobilenetv2"), ("resnet50", "mobilenetv2"), ("resnet50", "vgg8"),
    ("resnet32x4", "shufflenetv1"), ("resnet32x4", "shufflenetv2"), ("wrn-40-2", "shufflenetv1"),
)  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """A pair of networks and how the student is trained.

    Attributes:
        teacher: Name of the teacher.
        student: Name of the student.
        lr: The student's learning rate.
    """

    teacher: str
    student: str
    lr: float

    def recipe(self, teacher: bool = False) -> dict[str, Any]:
        """Return the fields of a ``TrainConfig`` that the recipe decides, for one of the two."""
        return {
            "epochs": _EPOCHS,
            "batch_size": _BATCH_SIZE,
            "lr": _LR if teacher else self.lr,
            "schedule": "step",
            "drops": defaults.LR_DROPS,
            "warmup": 0.0,
            "nesterov": False,
            "shift": 4,
        }

    def options(self, teacher: bool = False) -> dict[str, Any]:
        """Return the values of the command line's options, by the names of its parameters.

        Args:
            teacher: For ``train-teacher``: what is trained is the teacher.
        """
        recipe = self.recipe(teacher)
        recipe["lr_schedule"] = recipe.pop("schedule")
        recipe["lr_drops"] = ",".join(map(str, recipe.pop("drops")))
        own = {} if teacher else {"student": self.student, "teacher_epochs": _EPOCHS}
        return {"data": "cifar100", "teacher": self.teacher} | own | recipe


PRESETS = {
    f"cifar100/{teacher}-{student}": Preset(
        f"cifar:{teacher}", f"cifar:{student}", _LOW_LR if student in _LOW else _LR
    )
    for teacher, student in _PAIRS
}
"""``--preset NAME`` to what it stands for."""


def find_preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        UsageError: there is none of this name; the message shows the nearest.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name, PRESETS, 3, 0.4) or list(PRESETS)[:3]
    raise UsageError(f"there is no --preset {name}", f"There is such as {', '.join(near)}")
