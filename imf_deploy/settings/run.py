"""Settings of the main job."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any

from pydantic import Field

from imf_deploy.files import finite
from imf_deploy.settings.base import Words, settings
from imf_deploy.settings.compare import LatencyBudget
from imf_deploy.settings.data import DataSettings
from imf_deploy.settings.distill import DistillSettings, TuningSettings
from imf_deploy.settings.export import DEPLOY, ExportSettings
from imf_deploy.settings.quantize import Int8Settings
from imf_deploy.settings.teacher import RunTeacher

BEST = "best"
ALL = "all"
OUTPUT = "imf-deploy-out"
QUICK_OUTPUT = "imf-deploy-quick"
"""Default folder of a trial, so that it does not replace a run."""


@settings("Export")
class ConfidenceSettings:
    """Whether the confidences of products are calibrated."""

    calibrate_confidence: Annotated[
        bool,
        Field(
            description="Fit the confidences of each product to validation images by a temperature, which is "
            "folded into its last layer; classes stay the same."
        ),
    ] = False


@settings("Export")
class ProductSettings(ConfidenceSettings):
    """Which products are stripped."""

    products: Annotated[Words, Field(description="all, or names such as plain,imf@2.")] = (ALL,)


@settings(precisions=DEPLOY)
class DeploySettings(ExportSettings):
    """Which files the main job writes for each product, and how engines are built."""


@settings("Export")
class BestProductSettings:
    """Which products the main job strips and exports."""

    products: Annotated[
        Words,
        Field(
            description="all; names such as plain,imf@2; or best: plain, the smallest imf@k within a point "
            "of its accuracy, and the most accurate imf@k of at most half its size."
        ),
    ] = (BEST,)


@settings()
class JobSettings(TuningSettings, ConfidenceSettings, BestProductSettings):
    """Settings of the main job besides those of its stages."""

    quick: Annotated[
        bool,
        Field(
            description="Run a trial in "
            f"{QUICK_OUTPUT}: one epoch, also of the teacher, only the product plain, no --refit. Its "
            "accuracies are not a result."
        ),
    ] = False


@settings("Export")
class LatencySettings(LatencyBudget):
    """How long latencies are measured for, and the limit that the recommended file keeps."""

    bench_seconds: Annotated[
        float, Field(ge=0, description="Minimum measuring time of each file's latency in seconds.")
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
        # None of a timing cache, accepting a weak teacher and keeping slow files changes a result.
        decisive = replace(
            self,
            export=replace(self.export, timing_cache=None),
            teacher=replace(self.teacher, accept_weak_teacher=False),
        )
        # Lists instead of tuples, as JSON reads them back.
        content: dict[str, Any] = finite(asdict(decisive))
        del content["int8"]["keep_int8"]
        # At the same level as the products: both decide which files are made, but not their content.
        return content | {"precisions": content["export"].pop("precisions")}
