"""What decides the results of the main job."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any

from pydantic import Field

from imf_deploy.files import finite
from imf_deploy.settings.base import Words, settings
from imf_deploy.settings.data import DataSettings
from imf_deploy.settings.distill import DistillSettings, TuningSettings
from imf_deploy.settings.export import DEPLOY, ExportSettings
from imf_deploy.settings.quantize import Int8Settings
from imf_deploy.settings.teacher import RunTeacher

BEST = "best"
ALL = "all"
OUTPUT = "imf-deploy-out"
QUICK_OUTPUT = "imf-deploy-quick"
"""Where a trial writes, so that it is not in the place of a run."""


@settings("Export")
class ProductSettings:
    """Which products are made."""

    products: Annotated[Words, Field(description="all, or names such as plain,imf@2.")] = (ALL,)


@settings(precisions=DEPLOY)
class DeploySettings(ExportSettings):
    """Which files the main job writes of each product, and how engines are built."""


@settings("Export")
class BestProductSettings:
    """Which products the main job makes."""

    products: Annotated[
        Words,
        Field(
            description="best: plain, the smallest imf@k within a point of it, and the most accurate of at "
            "most half its size; all; or names such as plain,imf@2."
        ),
    ] = (BEST,)


@settings()
class JobSettings(TuningSettings, BestProductSettings):
    """What the main job does beyond the stages that have settings of their own."""

    quick: Annotated[
        bool,
        Field(
            description="A trial of one epoch (of the teacher's training too) and of plain alone, without "
            f"--refit, in {QUICK_OUTPUT}; its accuracies are not a result."
        ),
    ] = False


@settings("Export")
class LatencySettings:
    """How long latencies are measured."""

    bench_seconds: Annotated[
        float, Field(ge=0, description="Minimum time that each file's latency is measured for.")
    ] = 1.0


@settings()
class RunSettings(JobSettings):
    """Everything that decides the results of the main job."""

    data: DataSettings = DataSettings()
    teacher: RunTeacher = RunTeacher()
    distill: DistillSettings = DistillSettings()
    export: DeploySettings = DeploySettings()
    int8: Int8Settings = Int8Settings()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that the run folder keeps."""
        # Timings decide when an engine is built, not what; and consent decides no result.
        decisive = replace(
            self,
            export=replace(self.export, timing_cache=None),
            teacher=replace(self.teacher, accept_weak_teacher=False),
        )
        # Lists in place of tuples, as JSON reads them back.
        content: dict[str, Any] = finite(asdict(decisive))
        # Beside the products: these two decide which files are made, and nothing of what is in them.
        return content | {"precisions": content["export"].pop("precisions")}
