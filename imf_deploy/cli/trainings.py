"""The commands that train: ``train-teacher``, ``distill``, ``qat`` and ``study``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import imf_deploy.cli.options as o
from imf_deploy.files import write_yaml
from imf_deploy.progress import say
from imf_deploy.settings import (
    DataSettings,
    DistillSettings,
    GivenTeacher,
    MonitoringSettings,
    QatSettings,
    StudySettings,
    TeacherSettings,
)
from imf_deploy.settings.data import PlaceSettings
from imf_deploy.settings.run import OUTPUT, LatencySettings
from imf_deploy.settings.teacher import TeacherWeights
from imf_deploy.settings.training import MemorySettings


def train_teacher(
    *,
    preset: o.Preset = "",
    data: DataSettings = DataSettings(),
    config: TeacherSettings = TeacherSettings(),
    monitoring: MonitoringSettings = MonitoringSettings(),
    output: Annotated[Path, o.to("Weights file to write.")] = Path("teacher.safetensors"),
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Train a teacher on a data set with cross-entropy, from fresh or from given weights."""
    from imf_deploy.data import open_data
    from imf_deploy.data.counts import scarcity_notes
    from imf_deploy.errors import UsageError
    from imf_deploy.models import prepared_for
    from imf_deploy.teaching.fine_tuning import LARGE_TEACHER
    from imf_deploy.teaching.teacher import train_teacher as run
    from imf_deploy.training.distributed import leave

    if data.unlabelled:
        raise UsageError(
            "a teacher learns from labels alone, so it cannot use `unlabelled`",
            "Leave it out here, and give it to distill",
        )
    opened = open_data(prepared_for(data, config.teacher_weights, config.teacher or LARGE_TEACHER))
    for note in (*opened.notes, *scarcity_notes(opened)):
        say(note)
    made = run(opened, config, weights_file(output), overwrite, monitoring)
    leave()
    write_yaml(output.with_suffix(".config.yaml"), common.settings)
    say(f"{made.path}: {made.accuracy:.2%} of {len(opened.test)} test images")


def weights_file(path: Path) -> Path:
    """Return ``path`` if it can name a weights file.

    Raises:
        UsageError: it is a folder, or has the suffix of another format.
    """
    from imf_deploy.errors import UsageError

    if path.is_dir() or path.suffix != ".safetensors":
        raise UsageError(f"--output {path} is not a weights file", "Give a name that ends in .safetensors")
    return path


def distill(
    *,
    preset: o.Preset = "",
    data: DataSettings = DataSettings(),
    teacher: GivenTeacher = GivenTeacher(),
    config: DistillSettings = DistillSettings(),
    monitoring: MonitoringSettings = MonitoringSettings(),
    output: o.Output = Path(OUTPUT),
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Distil a teacher into a student with IMF. Writes OUTPUT/distilled.safetensors."""
    from imf_deploy.data import open_data
    from imf_deploy.data.counts import scarcity_notes
    from imf_deploy.distillation.distill import check_unlabelled
    from imf_deploy.distillation.distill import distill as run
    from imf_deploy.distillation.student import student_data, student_spec, student_start
    from imf_deploy.models import check_student
    from imf_deploy.run.folder import RECORD, SETTINGS, RunFolder
    from imf_deploy.teaching.teacher import find_teacher
    from imf_deploy.teaching.weak_teacher import check_teacher, weak_on_validation
    from imf_deploy.training.distributed import leave

    opened = open_data(student_data(data, config, teacher))
    for note in (*opened.notes, *scarcity_notes(opened)):
        say(note)
    check_unlabelled(config, opened)
    start = student_start(config, opened)
    for note in start.notes if start else ():
        say(note)
    check_student(student_spec(config, opened), start.load if start else None)  # faster than the teacher
    loaded = find_teacher(teacher, opened, config.device)
    if doubt := check_teacher(loaded, opened, teacher.accept_weak_teacher):
        say(doubt)
    made = run(opened, loaded, config, RunFolder(output).distilled, overwrite, monitoring, checked=True)
    leave()
    if not (output / RECORD).exists():  # the main job's folder has a record of its own
        write_yaml(output / SETTINGS, common.settings)
    if warning := weak_on_validation(made, loaded, opened):
        say(warning)
    say(f"{made.path}: next, imf-deploy strip {made.path}")


def qat(
    distilled: Annotated[Path, Parameter(help="What imf-deploy distill wrote.")],
    /,
    *,
    config: QatSettings = QatSettings(),
    teacher: TeacherWeights = TeacherWeights(),
    place: PlaceSettings = PlaceSettings(),
    monitoring: MonitoringSettings = MonitoringSettings(),
    output: Annotated[
        Path | None, o.to("Weights file to write; by default distilled-qat beside the input.")
    ] = None,
    trust_model: o.TrustModel = (),
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Continue a distillation with simulated INT8 rounding (quantisation-aware training).

    Strip, export and calibrate the result like any distilled student.
    """
    from imf_deploy.artifact import load_artifact
    from imf_deploy.calib.qat import describe_qat
    from imf_deploy.calib.qat import qat as run
    from imf_deploy.data import reopen_data
    from imf_deploy.distillation.distill import load_distilled
    from imf_deploy.models import ModelSpec
    from imf_deploy.records.files import DistilledFile
    from imf_deploy.teaching.teacher import find_teacher
    from imf_deploy.teaching.weak_teacher import check_teacher
    from imf_deploy.training.distributed import leave

    path = weights_file(output or distilled.parent / "distilled-qat.safetensors")
    loaded = load_distilled(load_artifact(distilled, DistilledFile), trust_model)
    opened = reopen_data(loaded.artifact.data_config, place.data, place.data_root, place.labels)
    # The record of the student or of the packaged teacher names the architecture, and the hash is compared.
    known = ModelSpec.from_dict(loaded.artifact.teacher, trust_model)
    given = GivenTeacher()
    if teacher.teacher_weights:
        given = GivenTeacher(
            weights_key=loaded.artifact.teacher_key,
            teacher_options=known.settings,
            teacher_stem_strides=known.stem_strides,
            teacher=known.name,
            teacher_weights=teacher.teacher_weights,
        )
    teaching = find_teacher(given, opened, config.device)
    if doubt := check_teacher(teaching, opened, teacher.accept_weak_teacher):
        say(doubt)
    made = run(loaded, opened, teaching, config, path, overwrite, monitoring)
    leave()
    write_yaml(path.with_suffix(".config.yaml"), common.settings)
    for sentence in describe_qat(made):
        say(sentence)
    say(f"{made.path}: next, imf-deploy strip {made.path}")


def study(
    *,
    config: StudySettings = StudySettings(),
    data: DataSettings = DataSettings(),
    teacher: GivenTeacher = GivenTeacher(),
    memory: MemorySettings = MemorySettings(),
    latency: LatencySettings = LatencySettings(),
    jobs: Annotated[int, Parameter(help="Trainings that run at the same time.", group="Study")] = 1,
    output: o.Output = Path("imf-deploy-study"),
    common: o.Common = o.Common(),
) -> None:
    """Compare IMF with other methods: same budget, same order of data, same seeds.

    Writes OUTPUT/study.md, study.json and figures. Finished trainings are kept
    in OUTPUT/runs, so that the same command resumes an interrupted study, and a
    larger study reuses them.
    """
    from imf_deploy.models import prepared_for
    from imf_deploy.study.pool import Bench
    from imf_deploy.study.stage import study as run

    data = prepared_for(data, config.student_weights, next(iter(config.students), ""))
    bench = Bench(data, teacher, config.device, output / "runs", memory.teacher_outputs_gb)
    run(config, bench, output, common.command, jobs, latency.bench_seconds, common.settings)
    say(f"{output / 'study.md'}: tables, comparisons and settings, with figures beside it")
