"""Teacher-student pairs of the distillation literature and their training recipes, by name.

CIFAR-100: Tian et al. 2019, "Contrastive Representation Distillation", tables 1 and 2, and the authors'
published settings (RepDistiller): SGD with momentum 0.9 (not Nesterov's), weight decay 5e-4, batches of
64, 240 epochs, learning rate 0.05, or 0.01 for MobileNetV2 and ShuffleNet students, divided by 10 after
epochs 150, 180 and 210; images padded by 4 pixels, cropped and mirrored.

ImageNet: PyTorch's example of an ImageNet training, which the distillation literature runs for 100 epochs
(such as Heo et al. 2019, "A Comprehensive Overhaul of Feature Distillation"): SGD with momentum 0.9,
weight decay 1e-4, batches of 256, learning rate 0.1, divided by 10 after epochs 30, 60 and 90; random
parts of the photos, mirrored, at 224 pixels.

The weights of IMF's loss are this project's own.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from imf_deploy.errors import UsageError
from imf_deploy.settings import TrainingSettings

_LOW_LR = 0.01
_LOW = ("mobilenetv2", "shufflenetv1", "shufflenetv2")

_CIFAR_PAIRS = (
    # table 1: teacher and student of the same architecture
    ("wrn-40-2", "wrn-16-2"), ("wrn-40-2", "wrn-40-1"), ("resnet56", "resnet20"), ("resnet110", "resnet20"),
    ("resnet110", "resnet32"), ("resnet32x4", "resnet8x4"), ("vgg13", "vgg8"),
    # table 2: of different architectures
    ("vgg13", "mobilenetv2"), ("resnet50", "mobilenetv2"), ("resnet50", "vgg8"),
    ("resnet32x4", "shufflenetv1"), ("resnet32x4", "shufflenetv2"), ("wrn-40-2", "shufflenetv1"),
)  # fmt: skip
_IMAGENET_PAIRS = (("resnet34", "resnet18"), ("resnet50", "mobilenetv2"))
_TORCHVISION = {"mobilenetv2": "mobilenet_v2"}


@dataclass(frozen=True)
class Preset:
    """A pair of networks, their data, and their training recipe.

    Attributes:
        teacher: Name of the teacher.
        student: Name of the student.
        data: Values of the options of the data panel, by the names of their parameters. An empty
            ``data`` has to be given by the user.
        training: Fields of a ``TrainingSettings`` that the recipe sets.
        lr: The student's learning rate, if it differs from the teacher's.
    """

    teacher: str
    student: str
    data: Mapping[str, Any]
    training: Mapping[str, Any]
    lr: float | None = None

    def recipe(self, teacher: bool = False) -> dict[str, Any]:
        """Return the fields of a ``TrainingSettings`` that the recipe sets, for one of the two."""
        return dict(self.training) | ({} if teacher or self.lr is None else {"lr": self.lr})

    def options(self, teacher: bool = False) -> dict[str, Any]:
        """Return the values of the command line's options, by the names of its parameters.

        Args:
            teacher: Whether the teacher is trained, for ``train-teacher``.
        """
        recipe = self.recipe(teacher)
        own = {} if teacher else {"student": self.student, "teacher_epochs": recipe["epochs"]}
        return {"teacher": self.teacher} | dict(self.data) | own | recipe


_STEPS = {
    "optimizer": "sgd",
    "lr_schedule": "step",
    "warmup": 0.0,
    "momentum": 0.9,
    "nesterov": False,
    "label_smoothing": 0.0,
}
_CIFAR = Preset(
    "",
    "",
    {"data": "cifar100"},
    _STEPS
    | {
        "epochs": 240,
        "batch_size": 64,
        "lr": 0.05,
        "lr_drops": TrainingSettings.lr_drops,
        "weight_decay": 5e-4,
        "augment": "shift-flip",
        "shift": 4,
    },
)
_IMAGENET = Preset(
    "",
    "",
    # Of 1.28 million images, one in a hundred is enough for validation.
    {"data": "", "image_size": 224, "val_fraction": 0.01},
    _STEPS
    | {
        "epochs": 100,
        "batch_size": 256,
        "lr": 0.1,
        "lr_drops": (0.3, 0.6, 0.9),
        "weight_decay": 1e-4,
        "augment": "crop-flip",
    },
)

PRESETS = {
    f"cifar100/{teacher}-{student}": replace(
        _CIFAR,
        teacher=f"cifar:{teacher}",
        student=f"cifar:{student}",
        lr=_LOW_LR if student in _LOW else None,
    )
    for teacher, student in _CIFAR_PAIRS
} | {
    f"imagenet/{teacher}-{student}": replace(
        _IMAGENET,
        teacher=f"torchvision:{teacher}",
        student=f"torchvision:{_TORCHVISION.get(student, student)}",
    )
    for teacher, student in _IMAGENET_PAIRS
}
"""The presets by name."""


def find_preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        UsageError: there is no preset of this name; the message shows the nearest names.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name, PRESETS, 3, 0.4) or list(PRESETS)[:3]
    raise UsageError(f"there is no `preset` {name}", f"Similar names: {', '.join(near)}")
