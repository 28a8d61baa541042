"""``imf-deploy study``: compares methods with the same budget, order of data and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import imf_deploy.cli.options as o
from imf_deploy.settings import DataSettings, GivenTeacher, StudySettings
from imf_deploy.settings.run import LatencySettings
from imf_deploy.settings.training import MemorySettings


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
    """Compare IMF with cross-entropy, KD, hints and DKD: same budget, same order of data, same seeds.

    Writes OUTPUT/study.md, study.json and figures. Finished trainings are kept
    in OUTPUT/runs, so that the same command resumes an interrupted study, and a
    larger study reuses them.
    """
    from imf_deploy.progress import say
    from imf_deploy.study.pool import Bench
    from imf_deploy.study.stage import study as run

    bench = Bench(data, teacher, config.device, output / "runs", memory.teacher_outputs_gb)
    run(config, bench, output, common.command, jobs, latency.bench_seconds, common.settings)
    say(f"{output / 'study.md'}: tables, comparisons and settings, with figures beside it")
