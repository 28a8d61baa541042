"""What the options of the main job come to, once nothing about them can be wrong any more."""

from __future__ import annotations

from dataclasses import dataclass

from imf_deploy import defaults
from imf_deploy.calib.qat import QatConfig
from imf_deploy.data import DataSet, open_data
from imf_deploy.errors import UsageError
from imf_deploy.export.choice import FileChoice, choose_precisions
from imf_deploy.export.stage import EngineConfig, choose_engines
from imf_deploy.method.names import blocks_kept
from imf_deploy.method.products import BEST, choose_products
from imf_deploy.models import check_student, truncate
from imf_deploy.run.config import RunConfig, choose_qat
from imf_deploy.training.config import Monitoring


@dataclass(frozen=True)
class Plan:
    """What options came to, once nothing about them can be wrong any more.

    Attributes:
        data: The splits.
        names: Products that may be made.
        choice: Which files are made of each.
        engines: How engines are built; nothing where none is.
        remark: What the user should know of engines; may be empty.
        tuning: How the student is tuned for INT8; nothing where it is not.
    """

    data: DataSet
    names: list[str]
    choice: FileChoice
    engines: EngineConfig | None
    remark: str
    tuning: QatConfig | None


def make_plan(config: RunConfig, bench_seconds: float, monitoring: Monitoring) -> Plan:
    """Check everything that can be checked before anything is trained.

    Raises:
        UsageError: a name, a path or a value that cannot be used.
    """
    if not bench_seconds >= 0:
        raise UsageError("--bench-seconds must be at least 0")
    choice = choose_precisions(config.precisions)
    engines, remark = choose_engines(
        config.trt, config.batch, config.capabilities, choice, config.build, config.timing_cache
    )
    config.distill.check()
    config.teacher.train.check()
    monitoring.check()
    config.gate.check()
    tuning = choose_qat(config, choice)
    data = open_data(config.data)
    if choice.int8 and not len(data.validation):
        raise UsageError(
            "INT8 is judged on validation images, and there are none",
            "Raise --val-fraction, or give --precisions fp32,fp16",
        )
    return Plan(data, _products(config, data), choice, engines, remark, tuning)


def _products(config: RunConfig, data: DataSet) -> list[str]:
    """Return which products may be made; a student that cannot be cut is refused before it is trained."""
    student, blocks = check_student(config.distill.spec(data))
    wanted = defaults.EVERY_PRODUCT if config.products == BEST else config.products
    names = choose_products(wanted, len(blocks))
    if kept := max(blocks_kept(name) for name in names):
        truncate(student, blocks[:kept])
    return names
