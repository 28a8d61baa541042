"""``imf-deploy distill-and-export``: all stages in one command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import imf_deploy.cli.options as o
from imf_deploy.settings import DataSettings, DistillSettings, MonitoringSettings, RunSettings, RunTeacher
from imf_deploy.settings.quantize import Int8Settings
from imf_deploy.settings.run import OUTPUT, QUICK_OUTPUT, DeploySettings, JobSettings, LatencySettings
from imf_deploy.settings.teacher import TeacherChoice


def distill_and_export(
    *,
    preset: o.Preset = "",
    data: DataSettings = DataSettings(),
    teacher: TeacherChoice = TeacherChoice(),
    student: DistillSettings = DistillSettings(),
    monitoring: MonitoringSettings = MonitoringSettings(),
    export: DeploySettings = DeploySettings(),
    int8: Int8Settings = Int8Settings(),
    job: JobSettings = JobSettings(),
    latency: LatencySettings = LatencySettings(),
    output: o.Output = Path(OUTPUT),
    overwrite: o.Overwrite = False,
    common: o.Common = o.Common(),
) -> None:
    """Run all stages: distil, strip, export, verify, bench, report.

    Repeating the command resumes an interrupted run. Exits with 3 if a file
    misses its gate, or if none is within --latency-budget-ms.
    """
    from rich.console import Console

    from imf_deploy.pipeline.job import distill_and_export as run
    from imf_deploy.report.terminal import render_summary

    record = common.settings
    if job.quick:
        _check_quick(common.given)
        student, teacher = replace(student, epochs=1, refit=False), replace(teacher, teacher_epochs=1)
        job = replace(job, products=_QUICK["products"])
        record = record | _QUICK
        output = Path(QUICK_OUTPUT) if output == Path(OUTPUT) else output
    config = RunSettings(
        data=data,
        teacher=_teacher(teacher, student, preset),
        distill=student,
        export=export,
        int8=int8,
        **vars(job),
    )
    report = run(
        config,
        output,
        common.command,
        overwrite,
        latency.bench_seconds,
        monitoring,
        record,
        latency.latency_budget_ms,
    )
    if report is not None:
        Console().print(render_summary(report))


_SHARED = ("train_precision", "device", "augment", "flip", "seed", "grad_accumulation", "balance")


def _teacher(teacher: TeacherChoice, student: DistillSettings, preset: str) -> RunTeacher:
    """Return how the main job finds or trains a teacher, with the student's values of ``_SHARED``."""
    from imf_deploy.training.presets import find_preset

    own = vars(teacher).copy()
    recipe = find_preset(preset).recipe(teacher=True) if preset else {}
    shared = {name: getattr(student, name) for name in _SHARED}
    return RunTeacher(**(recipe | shared | {"epochs": own.pop("teacher_epochs")} | own))


_QUICK: dict[str, Any] = {"epochs": 1, "teacher-epochs": 1, "products": "plain", "refit": False}
"""Options that a trial sets."""


def _check_quick(given: frozenset[str]) -> None:
    """Reject options on the command line that ``--quick`` sets; it overrides those of a file or a preset."""
    from imf_deploy.errors import UsageError

    if twice := [f"--{name}" for name in _QUICK if name in given]:
        raise UsageError(
            f"--quick sets {', '.join(f'--{name}' for name in _QUICK)}, and {' and '.join(twice)} "
            f"{'is' if len(twice) == 1 else 'are'} given too",
            f"Leave out --quick or {' and '.join(twice)}",
        )
