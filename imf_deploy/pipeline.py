"""The main job: data and a teacher in, verified and benched files and a report out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imf_deploy import defaults
from imf_deploy.artifact import Artifact
from imf_deploy.bench.int8 import do_int8_engines_pay, does_int8_pay
from imf_deploy.bench.products import measure_products, was_it_busy
from imf_deploy.calib.config import CalibrationConfig, Cpus
from imf_deploy.calib.product import export_product
from imf_deploy.data import DataConfig, DataSet, eval_batches, open_data
from imf_deploy.errors import GateError, UsageError
from imf_deploy.export.build_options import BuildOptions
from imf_deploy.export.flavour import FlavourOption
from imf_deploy.export.onnx_file import Precision
from imf_deploy.export.stage import EngineConfig, choose_engines, choose_precisions
from imf_deploy.files import finite
from imf_deploy.gate import Gate
from imf_deploy.models import check_student, truncate
from imf_deploy.processes import is_first
from imf_deploy.progress import say, track
from imf_deploy.report.assemble import assemble
from imf_deploy.report.html import write_report
from imf_deploy.run_folder import RunFolder, open_run
from imf_deploy.strip.names import blocks_kept
from imf_deploy.strip.products import Product, choose_products, load_product
from imf_deploy.strip.stage import PROOF_IMAGES, strip
from imf_deploy.train.config import Monitoring
from imf_deploy.train.distill import DistillConfig, distill, load_distilled
from imf_deploy.train.distributed import leave, on_first
from imf_deploy.train.qat import QatConfig, describe_qat, qat
from imf_deploy.train.teacher import (
    Teacher,
    TeacherConfig,
    TeacherNeededError,
    find_teacher,
    train_teacher,
)
from imf_deploy.train.weak_teacher import check_teacher, weak_teacher
from imf_deploy.verify.processors import describe as describe_processors
from imf_deploy.verify.stage import evaluate_product, verify

if TYPE_CHECKING:
    from imf_deploy.report.schema import Report

TOLD = 3
"""Files that an error names with their reasons; the report has them all."""


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
        products: ``all``, or names such as ``plain,imf@2``.
        precisions: Names such as ``fp32,fp16,int8``.
        trt: Which TensorRT builds engines.
        batch: Optimisation profiles of engines.
        capabilities: Targets of TensorRT-RTX engines.
        build: Other options of engines.
        timing_cache: File that keeps the builder's timings; nothing keeps them beside the engines.
        gate: What every file has to pass.
        int8_cpus: Which processors INT8 files for ONNX Runtime are for.
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

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that the run folder keeps."""
        # Lists in place of tuples, as JSON reads them back. Timings decide when an engine is built, not what.
        content: dict[str, Any] = finite(asdict(replace(self, timing_cache=None)))
        return content


def distill_and_export(
    config: RunConfig,
    output: Path,
    command: str,
    overwrite: bool = False,
    bench_seconds: float = defaults.BENCH_SECONDS,
    monitoring: Monitoring = Monitoring(),  # noqa: B008, frozen
    settings: Mapping[str, Any] | None = None,
    accept_weak_teacher: bool = False,
) -> Report | None:
    """Run every stage, each going on from the files of the one before.

    Of several processes all train; the first one goes on from there, alone.

    Args:
        config: What to do.
        output: Folder of the run.
        command: What the report shows as the way to repeat the run.
        overwrite: Whether another run in ``output`` may be replaced.
        bench_seconds: Least time that each file's latency is measured for.
        monitoring: What is kept and told of trainings while they run.
        settings: The command's options, to be kept in ``config.yaml``.
        accept_weak_teacher: Whether to go on with a given teacher whose accuracy is suspect.

    Returns:
        The content of ``report.json``, which is also written, with ``report.html``; nothing in the
        processes that only train.

    Raises:
        UsageError: a name, a path or a value that cannot be used; before anything is trained.
        GateError: a file broke a rung of the ladder or missed its gate; the report is written all the same.
        ImfDeployError: a stage failed; what was finished stays usable.
    """
    if not bench_seconds >= 0:
        raise UsageError("--bench-seconds must be at least 0")
    precisions = choose_precisions(config.precisions)
    engines, remark = choose_engines(
        config.trt, config.batch, config.capabilities, precisions, config.build, config.timing_cache
    )
    config.distill.check()
    config.teacher.train.check()
    monitoring.check()
    config.gate.check()
    tuning = choose_qat(config, precisions)
    data = open_data(config.data)
    if "int8" in precisions and not len(data.validation):
        raise UsageError(
            "INT8 is judged on validation images, and there are none",
            "Raise --val-fraction, or leave int8 out of --precisions",
        )
    names = _products(config, data)
    folder = on_first(lambda: open_run(output, config.to_dict(), overwrite, settings))
    notes = [*data.notes, *filter(None, [remark])]
    for note in notes:
        say(note)
    teacher, doubt = obtain_teacher(config, data, folder, monitoring, accept_weak_teacher)
    say(f"Teacher {teacher.spec.name}: {teacher.accuracy:.2%} of {len(data.test)} test images")
    if doubt:
        notes.append(doubt)
        say(doubt)
    # The user named the student, so that the record may name the same function.
    trusted = (config.distill.student,)
    trained = distill(data, teacher, config.distill, folder.distilled, monitoring=monitoring, checked=True)
    distilled = load_distilled(trained, trusted)
    if tuning:
        tuned = qat(distilled, data, teacher, tuning, folder.qat, monitoring=monitoring)
        distilled = load_distilled(tuned, trusted)
        for note in describe_qat(tuned, config.gate.max_accuracy_drop):
            notes.append(note)
            say(note)
    leave()
    if not is_first():
        return None
    images = next(
        eval_batches(data.validation if len(data.validation) else data.test, data.preprocess, PROOF_IMAGES)
    )[0]
    stripped = strip(distilled, names, folder.products, images, overwrite=True)
    products, files, declined = _export_and_verify(
        stripped,
        precisions,
        engines,
        data,
        CalibrationConfig(gate=config.gate, cpus=config.int8_cpus),
        folder,
        trusted,
    )
    latencies = measure_products(products, files, bench_seconds)
    for note in [
        *was_it_busy(latencies),
        *describe_processors(files),
        *declined,
        *does_int8_pay(files, latencies),
        *do_int8_engines_pay(files, bench_seconds),
    ]:
        notes.append(note)
        say(note)
    best = max(float(p.artifact.evidence["accuracy"]) for p in products)
    if warning := weak_teacher(teacher.accuracy, best):
        notes.append(warning)
        say(warning)
    report = assemble(
        config=config,
        data=data,
        teacher=teacher,
        distilled=distilled,
        products=products,
        files=files,
        latencies=latencies,
        notes=notes,
        command=command,
        folder=output,
    )
    write_report(report, output)
    failed = [row for row in report["artifacts"] if row["status"] == "fail"]
    if failed:
        told = [f"{row['path']}: {row['reason']}" for row in failed[:TOLD]]
        more = [f"and {len(failed) - TOLD} more"] if len(failed) > TOLD else []
        raise GateError(
            f"{len(failed)} file(s) missed their gate: {'; '.join(told + more)}",
            f"See {output / 'report.html'}",
        )
    return report


def _products(config: RunConfig, data: DataSet) -> list[str]:
    """Return which products to make; a student that cannot be cut is refused before it is trained."""
    student, blocks = check_student(config.distill.spec(data))
    names = choose_products(config.products, len(blocks))
    if kept := max(blocks_kept(name) for name in names):
        truncate(student, blocks[:kept])
    return names


def choose_qat(config: RunConfig, precisions: list[Precision]) -> QatConfig | None:
    """Return how a run is tuned for INT8; nothing where it is not.

    Raises:
        UsageError: a negative number of epochs, or no INT8 file to tune for.
        ImfDeployError: torchao cannot be used.
    """
    if not config.qat_epochs:
        return None
    if config.qat_epochs < 0:
        raise UsageError(f"--qat-epochs {config.qat_epochs} is out of range", "Give 0 or more")
    if "int8" not in precisions:
        raise UsageError(
            "--qat-epochs tunes weights for INT8, and no INT8 file is asked for",
            f"Give --precisions {config.precisions},int8, or leave it out",
        )
    tuning = QatConfig(config.qat_epochs, device=config.distill.train.device)
    tuning.check()
    return tuning


def obtain_teacher(
    config: RunConfig, data: DataSet, folder: RunFolder, monitoring: Monitoring, accept_weak: bool = False
) -> tuple[Teacher, str]:
    """Load the given teacher, or the packaged one where it fits the data, or train one.

    Returns:
        The teacher, and the warning about its accuracy; empty where that is fine.

    Raises:
        UsageError: the accuracy of a given teacher is suspect, and nobody accepted it.
    """
    device, wanted = config.distill.train.device, config.teacher
    try:
        teacher = find_teacher(config.teacher_weights, wanted.model, data, device, wanted.reading)
    except TeacherNeededError:
        trained = train_teacher(data, wanted, folder.teacher, monitoring=monitoring)
        teacher = find_teacher(str(trained.path), wanted.model, data, device)
        # What it was trained with is known to fit, and how long it is trained is the user's choice.
        accept_weak = True
    return teacher, check_teacher(teacher, data, accept_weak)


def _export_and_verify(
    stripped: list[Artifact],
    precisions: list[Precision],
    engines: EngineConfig | None,
    data: DataSet,
    calibration: CalibrationConfig,
    folder: RunFolder,
    trusted: tuple[str, ...],
) -> tuple[list[Product], list[Artifact], list[str]]:
    """Return the products, their verified files, and why INT8 was declined where it was."""
    products, files, declined = [], [], []
    with track("Exporting and verifying", len(stripped)) as advance:
        for artifact in stripped:
            product = evaluate_product(load_product(artifact.path, trusted), data)
            products.append(product)
            # One picture of sensitive layers is enough, and takes as long as a calibration.
            made, reasons = export_product(
                product,
                data,
                precisions,
                replace(calibration, rank=artifact is stripped[0]),
                engines,
                folder.deploy,
                overwrite=True,
            )
            declined += reasons
            files += [file.save() for file in verify(product, made, data, calibration.gate)]
            advance(1)
    return products, files, declined
