"""What decides the results of the main job."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from imf_deploy import defaults
from imf_deploy.calib.config import Cpus
from imf_deploy.calib.qat import QatConfig
from imf_deploy.data import DataConfig
from imf_deploy.distillation.distill import DistillConfig
from imf_deploy.errors import UsageError
from imf_deploy.export.build_options import BuildOptions
from imf_deploy.export.choice import FileChoice
from imf_deploy.export.flavour import FlavourOption
from imf_deploy.files import finite
from imf_deploy.teaching.teacher import TeacherConfig
from imf_deploy.verification.gate import Gate

TRIAL = "This is a trial (--quick): its accuracies are no result"


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the results of the main job.

    Attributes:
        data: Which data.
        teacher: How a teacher is trained where none is given.
        teacher_weights: Weights of a given teacher; empty takes the packaged one where it fits the
            data, else trains one.
        distill: Which student, and how.
        qat_epochs: Epochs of quantisation-aware training after the distillation; 0 for none.
        products: ``best``, ``all``, or names such as ``plain,imf@2``.
        precisions: ``deploy``, or names such as ``fp32,fp16,int8``.
        trt: Which TensorRT builds engines.
        batch: Optimisation profiles of engines.
        capabilities: Targets of TensorRT-RTX engines.
        build: Other options of engines.
        timing_cache: File that keeps the builder's timings; nothing keeps them beside the engines.
        gate: What every file has to pass.
        int8_cpus: Which processors INT8 files for ONNX Runtime are for.
        quick: Whether this is a trial, whose accuracies are no result; reports say so.
    """

    data: DataConfig = field(default_factory=DataConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    teacher_weights: str = ""
    distill: DistillConfig = field(default_factory=DistillConfig)
    qat_epochs: int = defaults.QAT_EPOCHS
    products: str = defaults.PRODUCTS
    precisions: str = defaults.PRECISIONS
    trt: FlavourOption = "auto"
    batch: str = defaults.BATCH_RANGE
    capabilities: tuple[str, ...] = ()
    build: BuildOptions = field(default_factory=BuildOptions)
    timing_cache: Path | None = None
    gate: Gate = field(default_factory=Gate)
    int8_cpus: Cpus = "all"
    quick: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that the run folder keeps."""
        # Lists in place of tuples, as JSON reads them back. Timings decide when an engine is built, not what.
        content: dict[str, Any] = finite(asdict(replace(self, timing_cache=None)))
        return content


def choose_qat(config: RunConfig, files: FileChoice) -> QatConfig | None:
    """Return how a run is tuned for INT8; nothing where it is not.

    Raises:
        UsageError: a negative number of epochs, or no INT8 file to tune for.
        ImfDeployError: torchao cannot be used.
    """
    if not config.qat_epochs:
        return None
    if config.qat_epochs < 0:
        raise UsageError(f"--qat-epochs {config.qat_epochs} is out of range", "Give 0 or more")
    if not files.int8:
        raise UsageError(
            "--qat-epochs tunes weights for INT8, and no INT8 file is asked for",
            f"Give --precisions {config.precisions},int8, or leave it out",
        )
    tuning = QatConfig(config.qat_epochs, device=config.distill.train.device)
    tuning.check()
    return tuning
