"""``imf-deploy distill-and-export``: the whole way in one command."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from imf_deploy import defaults
from imf_deploy.cli import engine_options as e
from imf_deploy.cli import options as o
from imf_deploy.cli import teacher_options as t
from imf_deploy.cli.config import Given, Settings
from imf_deploy.cli.recipe import Recipe, with_recipe
from imf_deploy.settings import Gate


@with_recipe
def distill_and_export(
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
    teacher_epochs: t.TeacherEpochs = defaults.TEACHER_EPOCHS,
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
    qat_epochs: o.QatEpochs = defaults.QAT_EPOCHS,
    flip: o.Flip = True,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    train_precision: o.Precision = o.TrainPrecision.FP32,
    products: o.ProductsOrBest = defaults.PRODUCTS,
    precisions: o.Precisions = defaults.PRECISIONS,
    trt: o.TrtOption = o.Trt.AUTO,
    compute_capability: o.Capability = "",
    batch: o.BatchRangeOption = defaults.BATCH_RANGE,
    version_compatible: e.VersionCompatible = False,
    hardware_compatible: e.HardwareCompatible = None,
    builder_level: e.BuilderLevel = None,
    workspace: e.Workspace = None,
    strip_weights: e.StripWeights = False,
    timing_cache: e.TimingCache = None,
    max_accuracy_drop: o.MaxAccuracyDrop = defaults.MAX_ACCURACY_DROP,
    min_agreement: o.MinAgreement = defaults.MIN_AGREEMENT,
    int8_cpus: o.Int8CpusOption = o.Int8Cpus.ALL,
    bench_seconds: o.BenchSeconds = defaults.BENCH_SECONDS,
    quick: o.Quick = False,
    output: o.Output = Path(defaults.OUTPUT),
    overwrite: o.Overwrite = False,
    *,
    recipe: Recipe,
    settings: Settings,
    given: Given,
) -> None:
    """Run the whole way: distil, strip, export, verify, bench, report.

    The same command goes on where it was interrupted. Exits with 3 if a file misses its gate.
    """
    values = locals()
    from rich.console import Console

    from imf_deploy.cli.read import data_settings, read, run_teacher
    from imf_deploy.method.names import PLAIN
    from imf_deploy.pipeline.job import distill_and_export as run
    from imf_deploy.report.terminal import render_summary
    from imf_deploy.settings import DistillSettings, RunSettings
    from imf_deploy.settings.quantize import Int8Settings
    from imf_deploy.settings.run import DeploySettings

    if quick:
        _check_quick(given)
        by_quick = {"epochs": 1, "teacher_epochs": 1, "products": PLAIN, "refit": False}
        values |= by_quick
        settings = settings | {name.replace("_", "-"): value for name, value in by_quick.items()}
        output = Path(defaults.QUICK_OUTPUT) if output == Path(defaults.OUTPUT) else output
    values |= recipe.values
    distill = read(DistillSettings, values)
    config = RunSettings(
        data=data_settings(values),
        teacher=run_teacher(values, distill),
        distill=distill,
        qat_epochs=qat_epochs,
        products=values["products"],
        export=read(DeploySettings, values),
        int8=read(Int8Settings, values, gate=read(Gate, values)),
        quick=quick,
    )
    command = shlex.join(["imf-deploy", *sys.argv[1:]])
    report = run(config, output, command, overwrite, bench_seconds, recipe.monitoring(), settings)
    if report is not None:
        Console().print(render_summary(report))


_SET_BY_QUICK = ("epochs", "teacher-epochs", "products", "refit")


def _check_quick(given: Given) -> None:
    """Refuse options on the command line that ``--quick`` sets; those of a file or a preset give way."""
    from imf_deploy.errors import UsageError

    if twice := [f"--{name}" for name in _SET_BY_QUICK if name in given]:
        raise UsageError(
            f"--quick sets {', '.join(f'--{name}' for name in _SET_BY_QUICK)}, and {' and '.join(twice)} "
            f"{'is' if len(twice) == 1 else 'are'} given too",
            f"Leave out --quick or {' and '.join(twice)}",
        )
