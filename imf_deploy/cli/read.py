"""Turn the values of options into what stages take; imported when a command runs."""

from __future__ import annotations

from dataclasses import replace

from imf_deploy.cli.options import Augmentation, LrSchedule, TrainPrecision
from imf_deploy.cli.words import WHOLE, names
from imf_deploy.data import DataConfig, DataSet, is_named, open_data, reopen_data
from imf_deploy.distillation.distill import DistillConfig
from imf_deploy.errors import UsageError
from imf_deploy.method.losses import LossWeights
from imf_deploy.models import OWN_STRIDES, parse_settings
from imf_deploy.records.files import DeployableFile
from imf_deploy.study.plan import Thin
from imf_deploy.teaching.reading import Reading
from imf_deploy.teaching.teacher import TEACHER_TRAINING, TeacherConfig
from imf_deploy.training.config import TrainConfig
from imf_deploy.training.presets import find_preset


def strides(text: str, option: str = "--stem-strides") -> tuple[int, ...] | None:
    """Read the value of an option: strides separated by commas.

    Returns:
        The strides; ``()`` for ``own``, which keeps those of the library; nothing where the option is empty.

    Raises:
        UsageError: not a list of 1s and 2s.
    """
    if text.strip() == OWN_STRIDES:
        return ()
    parts = names(text)
    if not all(part in ("1", "2") for part in parts):
        raise UsageError(f"{option} {text} is not a list of 1s and 2s", f"Give such as 2,1, or {OWN_STRIDES}")
    return tuple(int(part) for part in parts) or None


def data_config(data: str, root: str, image_size: int, val_fraction: float, split_seed: int) -> DataConfig:
    """Read the options of the data panel.

    Raises:
        UsageError: no data, as with a preset for ImageNet, or too small an image size.
    """
    if not data:
        raise UsageError(
            "no --data is given, and ImageNet has to be your own copy",
            "Give --data FOLDER with train/CLASS and val/CLASS, or --data 'train-{000..099}.tar,val-…'",
        )
    if image_size and image_size < 8:
        raise UsageError(f"--image-size {image_size} is too small", "Give 8 pixels or more")
    return DataConfig(data, root, image_size, val_fraction, split_seed)


def parts(option: str, text: str) -> tuple[float, ...]:
    """Read numbers separated by commas.

    Raises:
        UsageError: something else is there.
    """
    try:
        return tuple(float(word) for word in names(text))
    except ValueError as error:
        raise UsageError(f"{option} {text} is not a list of numbers", "Give such as 0.5,0.75") from error


def thin_students(text: str, epochs: int) -> tuple[Thin, ...]:
    """Read ``--thin``: names, each with its epochs behind the last colon or with ``epochs``.

    Raises:
        UsageError: no epochs at all.
    """
    thin = []
    for word in names(text):
        name, _, count = word.rpartition(":")
        with_epochs = bool(name) and WHOLE.fullmatch(count) is not None
        thin.append(Thin(name, int(count)) if with_epochs else Thin(word, epochs))
        if thin[-1].epochs < 1:
            raise UsageError(f"--thin {word} trains for no epoch", "Give such as mobilenetv2x0.5:10")
    return tuple(thin)


def train_config(
    epochs: int,
    batch_size: int,
    lr: float,
    schedule: LrSchedule,
    drops: str,
    warmup: float,
    nesterov: bool,
    shift: int | None,
    augment: Augmentation,
    precision: TrainPrecision,
    device: str,
    flip: bool,
    seed: int,
) -> TrainConfig:
    """Read the options of the training panel."""
    return TrainConfig(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        warmup=warmup,
        seed=seed,
        precision=precision.value,
        device=device,
        flip=flip,
        schedule=schedule.value,
        drops=parts("--lr-drops", drops),
        nesterov=nesterov,
        shift=shift,
        augment=augment.value,
    )


_SHARED = ("precision", "device", "augment", "flip", "seed", "grad_accumulation")


def teacher_config(model: str, epochs: int, student: TrainConfig, preset: str) -> TeacherConfig:
    """Return how the main job trains a teacher, where it has to.

    Args:
        model: Name of the architecture; empty chooses.
        epochs: Its own.
        student: What of its configuration is the teacher's too is in ``_SHARED``.
        preset: Whose recipe to take in place of the defaults; empty is none.
    """
    shared = {name: getattr(student, name) for name in _SHARED}
    recipe = find_preset(preset).recipe(teacher=True) if preset else {}
    return TeacherConfig(model, replace(TEACHER_TRAINING, **(recipe | shared | {"epochs": epochs})))


def teacher_reading(key: str, options: str, stem_strides: str) -> Reading:
    """Read ``--weights-key``, ``--teacher-options`` and ``--teacher-stem-strides``; what is empty is found.

    Raises:
        UsageError: options of another form than ``NAME=VALUE,...``, or strides other than 1 and 2.
    """
    settings = parse_settings(options, "--teacher-options") if options.strip() else None
    return Reading(key, settings, strides(stem_strides, "--teacher-stem-strides"))


def distill_config(
    student: str,
    stem_strides: str,
    student_taps: str,
    teacher_tap: str,
    weights: tuple[float, float, float],
    train: TrainConfig,
    refit: bool,
) -> DistillConfig:
    """Read the options of a distillation; ``weights`` are alpha, beta and the temperature."""
    return DistillConfig(
        student,
        strides(stem_strides),
        LossWeights(*weights),
        train,
        names(student_taps),
        teacher_tap,
        refit=refit,
    )


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
    return open_data(DataConfig(data, root, 0 if is_named(data) else artifact.preprocess.size))
