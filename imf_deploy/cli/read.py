"""Turn the values of options into what stages take; imported when a command runs."""

from __future__ import annotations

from dataclasses import replace

from imf_deploy.artifact import Artifact
from imf_deploy.cli.options import TrainPrecision
from imf_deploy.data import DataConfig, DataSet, open_data, reopen_data
from imf_deploy.errors import UsageError
from imf_deploy.method.losses import LossWeights
from imf_deploy.train.config import TrainConfig
from imf_deploy.train.distill import DistillConfig
from imf_deploy.train.teacher import TEACHER_TRAINING, TeacherConfig


def names(text: str) -> tuple[str, ...]:
    """Read words separated by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def strides(text: str) -> tuple[int, ...] | None:
    """Read ``--stem-strides``: numbers separated by commas; empty is nothing.

    Raises:
        UsageError: not a list of 1s and 2s.
    """
    parts = names(text)
    if not all(part in ("1", "2") for part in parts):
        raise UsageError(f"--stem-strides {text} is not a list of 1s and 2s", "Give such as 2,1")
    return tuple(int(part) for part in parts) or None


def data_config(data: str, root: str, image_size: int, val_fraction: float, split_seed: int) -> DataConfig:
    """Read the options of the data panel."""
    if image_size and image_size < 8:
        raise UsageError(f"--image-size {image_size} is too small", "Give 8 pixels or more")
    return DataConfig(data, root, image_size, val_fraction, split_seed)


def teacher_config(
    model: str, epochs: int, precision: TrainPrecision, device: str, flip: bool, seed: int
) -> TeacherConfig:
    """Read the options of a teacher that may have to be trained."""
    train = replace(
        TEACHER_TRAINING, epochs=epochs, precision=precision.value, device=device, flip=flip, seed=seed
    )
    return TeacherConfig(model, train)


def distill_config(
    student: str,
    stem_strides: str,
    alpha: float,
    beta: float,
    temperature: float,
    epochs: int,
    batch_size: int,
    lr: float,
    precision: TrainPrecision,
    device: str,
    flip: bool,
    seed: int,
) -> DistillConfig:
    """Read the options of a distillation."""
    train = TrainConfig(
        epochs, batch_size, lr, seed=seed, precision=precision.value, device=device, flip=flip
    )
    return DistillConfig(student, strides(stem_strides), LossWeights(alpha, beta, temperature), train)


def positive_numbers(option: str, text: str) -> list[int]:
    """Read whole numbers from 1, separated by commas.

    Raises:
        UsageError: something else is there.
    """
    parts = names(text)
    if not parts or not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"{option} {text} is not a list of whole numbers from 1", "Give such as 1,8,32")
    return [int(part) for part in parts]


def model_data(artifact: Artifact, data: str, root: str) -> DataSet:
    """Open the data of a deployable file: what its record names, or what the options give.

    Raises:
        UsageError: neither names any.
    """
    known = artifact.evidence.get("data_config")
    if known:
        return reopen_data(known, data, root)
    if not data:
        raise UsageError(f"{artifact.path} has no record of its data", "Give --data")
    return open_data(DataConfig(data, root, artifact.preprocess.size))
