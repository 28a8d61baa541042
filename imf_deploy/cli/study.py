"""``imf-deploy study``: methods compared, with the same budget, order of data and seeds."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from imf_deploy import defaults
from imf_deploy.cli import options as o
from imf_deploy.cli import teacher_options as t
from imf_deploy.cli.config import Settings
from imf_deploy.settings import GivenTeacher

STUDY = "Study"


def _option(*names: str, help: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(*names, help=help, rich_help_panel=STUDY)
    return option


def study(
    students: Annotated[
        str, _option("--students", help="Students, separated by commas, each named as --student elsewhere.")
    ] = defaults.STUDENT,
    methods: Annotated[
        str, _option(help="Of ce, kd, fitnet, dkd and imf: cross-entropy, KD, hints, DKD and IMF.")
    ] = "ce,kd,fitnet,dkd,imf",
    seeds: Annotated[
        str, _option(help="Of weights, order and augmentation; the same for all.")
    ] = "0,1,2,3,4",
    tries: Annotated[
        int, _option(help="Settings of each method that are tried on validation images; 1 tries none.")
    ] = 3,
    tuning_seed: Annotated[int, _option(help="Seed of these trials.")] = 1000,
    ablation_seeds: Annotated[
        int, _option(help="Seeds that each part of IMF is left out or changed with; 0 leaves it.")
    ] = 0,
    grid: Annotated[
        bool, _option("--grid", help="Also IMF with alpha and beta of 10, 20, 30 and 40.")
    ] = False,
    thin: Annotated[
        str,
        _option(
            help="Rivals of imf@k, trained by KD: thinner students and epochs, such as mobilenetv2x0.5:10."
        ),
    ] = "",
    student_taps: o.StudentTaps = "",
    jobs: Annotated[int, _option(help="Trainings side by side.")] = 1,
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
    epochs: o.Epochs = defaults.EPOCHS,
    batch_size: o.BatchSize = defaults.BATCH_SIZE,
    lr: Annotated[
        float, _option("--lr", help="Largest learning rate; what is tried beside it is a multiple of it.")
    ] = defaults.LR,
    augment: o.Augment = o.Augmentation.SHIFT_FLIP,
    shift: o.Shift = None,
    flip: o.Flip = True,
    device: o.Device = "auto",
    teacher_outputs_gb: Annotated[
        float,
        _option(help="Disk space for what the teacher says, which trainings of a seed share; 0 keeps none."),
    ] = defaults.TEACHER_OUTPUTS_GB,
    bench_seconds: o.BenchSeconds = defaults.BENCH_SECONDS,
    output: o.Output = Path("imf-deploy-study"),
    *,
    settings: Settings,
) -> None:
    """Compare IMF with cross-entropy, KD, hints and DKD: same budget, same order of data, same seeds.

    Writes OUTPUT/study.md, study.json and pictures. Finished trainings are kept in OUTPUT/runs, so the same
    command goes on where it was interrupted, and a larger study takes what is there.
    """
    values = locals()
    from imf_deploy.cli.read import data_settings, read
    from imf_deploy.progress import say
    from imf_deploy.settings import StudySettings
    from imf_deploy.study.pool import Bench
    from imf_deploy.study.stage import study as run

    config = read(StudySettings, values)
    bench = Bench(
        data_settings(values), read(GivenTeacher, values), device, output / "runs", teacher_outputs_gb
    )
    command = shlex.join(["imf-deploy", *sys.argv[1:]])
    run(config, bench, output, command, jobs, bench_seconds, settings)
    say(f"{output / 'study.md'}: tables, comparisons and settings; pictures beside it")
