"""Turn the values of options into settings; imported when a command runs."""

from __future__ import annotations

from dataclasses import fields
from enum import StrEnum
from typing import Any, TypeVar

from imf_deploy.data import DataSet, is_named, open_data, reopen_data
from imf_deploy.errors import UsageError
from imf_deploy.records.files import DeployableFile
from imf_deploy.settings import DataSettings, RunTeacher, TrainingSettings
from imf_deploy.training.presets import find_preset

Class = TypeVar("Class")


def read(kind: type[Class], values: dict[str, Any], **more: Any) -> Class:
    """Make settings of those of the values that are their fields."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    given = {name: value for name, value in values.items() if name in names} | more
    return kind(
        **{name: value.value if isinstance(value, StrEnum) else value for name, value in given.items()}
    )


def data_settings(values: dict[str, Any]) -> DataSettings:
    """Read the options of the data panel.

    Raises:
        UsageError: no data, as with a preset for ImageNet, or too small an image size.
    """
    if not values["data"]:
        raise UsageError(
            "no --data is given, and ImageNet has to be your own copy",
            "Give --data FOLDER with train/CLASS and val/CLASS, or --data 'train-{000..099}.tar,val-…'",
        )
    return read(DataSettings, values)


_SHARED = ("train_precision", "device", "augment", "flip", "seed", "grad_accumulation")


def run_teacher(values: dict[str, Any], student: TrainingSettings) -> RunTeacher:
    """Return how the main job finds or trains a teacher; ``_SHARED`` is as the student has it."""
    shared = {name: getattr(student, name) for name in _SHARED}
    recipe = find_preset(values["preset"]).recipe(teacher=True) if values["preset"] else {}
    own = {name: values[name] for name in _GIVEN}
    return RunTeacher(**(recipe | shared | own | {"epochs": values["teacher_epochs"]}))


_GIVEN = (
    "teacher", "teacher_weights", "weights_key", "teacher_options", "teacher_stem_strides", "accept_weak_teacher",
)  # fmt: skip


def model_data(artifact: DeployableFile, data: str, root: str) -> DataSet:
    """Open the data of a deployable file: what its record names, or what the options give.

    Raises:
        UsageError: neither names any.
    """
    known = artifact.data_config
    if known:
        return reopen_data(known, data, root)
    if not data:
        raise UsageError(f"{artifact.path} has no record of its data", "Give --data")
    size = 0 if is_named(data) else artifact.preprocess.size
    return open_data(DataSettings(data, root, image_size=size))
