"""The stages that train, one command each: ``train-teacher``, ``distill`` and ``qat``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imf_deploy import defaults
from imf_deploy.cli import options as o
from imf_deploy.cli import teacher_options as t
from imf_deploy.cli.config import Settings
from imf_deploy.cli.recipe import Recipe, with_monitoring, with_recipe
from imf_deploy.settings import DistillSettings, GivenTeacher


@with_recipe
def train_teacher(
    preset: o.Preset = "",
    data: o.Data = defaults.DATA,
    data_root: o.DataRoot = "",
    image_size: o.ImageSize = 0,
    val_fraction: o.ValFraction = defaults.VAL_FRACTION,
    split_seed: o.SplitSeed = 0,
    teacher: t.TeacherName = "",
    epochs: o.Epochs = defaults.TEACHER_EPOCHS,
    batch_size: o.BatchSize = defaults.TEACHER_BATCH_SIZE,
    lr: o.Lr = defaults.TEACHER_LR,
    lr_schedule: o.Schedule = o.LrSchedule.COSINE,
    lr_drops: o.LrDrops = o.LR_DROPS,
    warmup: o.Warmup = defaults.WARMUP,
    nesterov: o.Nesterov = True,
    shift: o.Shift = None,
    augment: o.Augment = o.Augmentation.SHIFT_FLIP,
    flip: o.Flip = True,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    train_precision: o.Precision = o.TrainPrecision.FP32,
    output: Annotated[Path, typer.Option("--output", "-o", help="Weights file to write.")] = Path(
        "teacher.safetensors"
    ),
    overwrite: o.Overwrite = False,
    *,
    recipe: Recipe,
    settings: Settings,
) -> None:
    """Train a teacher by cross-entropy on a data set."""
    values = locals() | recipe.values
    from imf_deploy.cli.read import data_settings, read
    from imf_deploy.data import open_data
    from imf_deploy.files import write_yaml
    from imf_deploy.progress import say
    from imf_deploy.settings import TeacherSettings
    from imf_deploy.teaching.teacher import train_teacher as run
    from imf_deploy.training.distributed import leave

    opened = open_data(data_settings(values))
    for note in opened.notes:
        say(note)
    config = read(TeacherSettings, values)
    made = run(opened, config, weights_file(output), overwrite, recipe.monitoring())
    leave()
    write_yaml(output.with_suffix(".config.yaml"), settings)
    say(f"{made.path}: {made.accuracy:.2%} of {len(opened.test)} test images")


def weights_file(path: Path) -> Path:
    """Return ``path`` if weights can be written under this name.

    Raises:
        UsageError: it is a folder, or names another format.
    """
    from imf_deploy.errors import UsageError

    if path.is_dir() or path.suffix != ".safetensors":
        raise UsageError(f"--output {path} is no weights file", "Give a name that ends in .safetensors")
    return path


@with_recipe
def distill(
    preset: o.Preset = "",
    student: o.Student = defaults.STUDENT,
    data: o.Data = defaults.DATA,
    data_root: o.DataRoot = "",
    image_size: o.ImageSize = 0,
    val_fraction: o.ValFraction = defaults.VAL_FRACTION,
    split_seed: o.SplitSeed = 0,
    teacher: t.TeacherName = "",
    teacher_weights: t.TeacherWeights = "",
    weights_key: t.WeightsKey = "",
    teacher_options: t.TeacherOptions = "",
    teacher_stem_strides: t.TeacherStemStrides = "",
    accept_weak_teacher: t.AcceptWeakTeacher = False,
    stem_strides: o.StemStrides = "",
    student_taps: o.StudentTaps = "",
    teacher_tap: t.TeacherTap = "",
    alpha: o.Alpha = defaults.ALPHA,
    beta: o.Beta = defaults.BETA,
    temperature: o.Temperature = defaults.TEMPERATURE,
    refit: o.Refit = True,
    epochs: o.Epochs = defaults.EPOCHS,
    batch_size: o.BatchSize = defaults.BATCH_SIZE,
    lr: o.Lr = defaults.LR,
    lr_schedule: o.Schedule = o.LrSchedule.COSINE,
    lr_drops: o.LrDrops = o.LR_DROPS,
    warmup: o.Warmup = defaults.WARMUP,
    nesterov: o.Nesterov = True,
    shift: o.Shift = None,
    augment: o.Augment = o.Augmentation.SHIFT_FLIP,
    flip: o.Flip = True,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    train_precision: o.Precision = o.TrainPrecision.FP32,
    output: o.Output = Path(defaults.OUTPUT),
    overwrite: o.Overwrite = False,
    *,
    recipe: Recipe,
    settings: Settings,
) -> None:
    """Distil a teacher into a student by IMF: writes OUTPUT/distilled.safetensors."""
    values = locals() | recipe.values
    from imf_deploy.cli.read import data_settings, read
    from imf_deploy.data import open_data
    from imf_deploy.distillation.distill import distill as run
    from imf_deploy.distillation.distill import student_spec
    from imf_deploy.files import write_yaml
    from imf_deploy.models import check_student
    from imf_deploy.progress import say
    from imf_deploy.run.folder import RECORD, SETTINGS, RunFolder
    from imf_deploy.teaching.teacher import find_teacher
    from imf_deploy.teaching.weak_teacher import check_teacher, weak_on_validation
    from imf_deploy.training.distributed import leave

    opened = open_data(data_settings(values))
    for note in opened.notes:
        say(note)
    config = read(DistillSettings, values)
    check_student(student_spec(config, opened))  # takes less than looking at the teacher
    found = find_teacher(read(GivenTeacher, values), opened, device)
    if doubt := check_teacher(found, opened, accept_weak_teacher):
        say(doubt)
    made = run(
        opened, found, config, RunFolder(output).distilled, overwrite, recipe.monitoring(), checked=True
    )
    leave()
    if not (output / RECORD).exists():  # the main job's folder has a record of its own
        write_yaml(output / SETTINGS, settings)
    if warning := weak_on_validation(made, found, opened):
        say(warning)
    say(f"{made.path}: next, imf-deploy strip {made.path}")


@with_monitoring
def qat(
    distilled: Annotated[Path, typer.Argument(help="What imf-deploy distill wrote.")],
    epochs: Annotated[int, typer.Option(help="Passes over the training split.")] = 1,
    lr_factor: Annotated[
        float, typer.Option(help="Largest learning rate, as a part of the distillation's.")
    ] = defaults.QAT_LR_FACTOR,
    teacher_weights: t.TeacherWeights = "",
    accept_weak_teacher: t.AcceptWeakTeacher = False,
    data: o.DataNow = "",
    data_root: o.DataRoot = "",
    device: o.Device = "auto",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Weights file; by default distilled-qat beside the input."),
    ] = None,
    trust_model: o.TrustModel = None,
    overwrite: o.Overwrite = False,
    *,
    recipe: Recipe,
    settings: Settings,
) -> None:
    """Distil a student further while it rounds like INT8 (quantisation-aware training).

    The result is stripped, exported and calibrated like any distilled student.
    """
    from imf_deploy.artifact import load_artifact
    from imf_deploy.calib.qat import describe_qat
    from imf_deploy.calib.qat import qat as run
    from imf_deploy.data import reopen_data
    from imf_deploy.distillation.distill import load_distilled
    from imf_deploy.files import write_yaml
    from imf_deploy.models import ModelSpec
    from imf_deploy.progress import say
    from imf_deploy.records.files import DistilledFile
    from imf_deploy.settings import QatSettings
    from imf_deploy.teaching.teacher import find_teacher
    from imf_deploy.teaching.weak_teacher import check_teacher
    from imf_deploy.training.distributed import leave

    config = QatSettings(epochs, lr_factor, device)
    path = weights_file(output or distilled.parent / "distilled-qat.safetensors")
    loaded = load_distilled(load_artifact(distilled, DistilledFile), trust_model or ())
    opened = reopen_data(loaded.artifact.data_config, data, data_root)
    # Its own record or the packaged one's says which architecture it is, and its hash is compared.
    known = ModelSpec.from_dict(loaded.artifact.teacher, trust_model or ())
    given = GivenTeacher()
    if teacher_weights:
        given = GivenTeacher(
            weights_key=loaded.artifact.teacher_key,
            teacher_options=known.settings,
            teacher_stem_strides=known.stem_strides,
            teacher=known.name,
            teacher_weights=teacher_weights,
        )
    found = find_teacher(given, opened, device)
    if doubt := check_teacher(found, opened, accept_weak_teacher):
        say(doubt)
    made = run(loaded, opened, found, config, path, overwrite, recipe.monitoring())
    leave()
    write_yaml(path.with_suffix(".config.yaml"), settings)
    for sentence in describe_qat(made):
        say(sentence)
    say(f"{made.path}: next, imf-deploy strip {made.path}")
