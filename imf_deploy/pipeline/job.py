"""The main job: from data and a teacher to verified and benchmarked files and a report."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imf_deploy.benchmark.int8 import do_int8_engines_pay, does_int8_pay
from imf_deploy.benchmark.products import measure_products, was_it_busy
from imf_deploy.calib.half import describe_halves
from imf_deploy.calib.product import export_product
from imf_deploy.calib.qat import describe_qat, qat
from imf_deploy.data import eval_batches
from imf_deploy.data.counts import scarcity_notes
from imf_deploy.distillation.distill import Distilled, distill, load_distilled
from imf_deploy.errors import GateError
from imf_deploy.method.products import Product, load_product
from imf_deploy.pipeline.estimate import estimate_run
from imf_deploy.pipeline.plan import Plan, given_teacher, make_plan, obtain_teacher, teacher_data
from imf_deploy.processes import is_first
from imf_deploy.progress import say, track, whole
from imf_deploy.records.files import DeployableFile
from imf_deploy.records.report import Report
from imf_deploy.report.assemble import assemble
from imf_deploy.report.html import write_report
from imf_deploy.report.left_out import left_out
from imf_deploy.report.verdict import deploy_sentence, is_trial
from imf_deploy.run.folder import RunFolder, open_run
from imf_deploy.settings import GraphSettings, MonitoringSettings, QuantizeSettings, RunSettings
from imf_deploy.settings.run import ALL, BEST, LatencySettings
from imf_deploy.stages import clock, stage
from imf_deploy.stripping.best import Selection, rate_products, select
from imf_deploy.stripping.stage import PROOF_IMAGES, strip
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.teaching.weak_teacher import weak_teacher
from imf_deploy.training.device import choose_device
from imf_deploy.training.distributed import leave, on_first
from imf_deploy.verification.processors import describe as describe_processors
from imf_deploy.verification.processors import tensorrt_alone
from imf_deploy.verification.stage import evaluate_product, verify

TRIAL = "This is a trial (--quick): its accuracies are not a result"
LISTED = 3
"""Maximum number of files that an error names with their reasons; the report has them all."""


def distill_and_export(
    config: RunSettings,
    output: Path,
    command: str = "",
    overwrite: bool = False,
    bench_seconds: float = LatencySettings.bench_seconds,
    monitoring: MonitoringSettings = MonitoringSettings(),  # noqa: B008, frozen
    settings: Mapping[str, Any] | None = None,
    latency_budget_ms: float | None = None,
) -> Report | None:
    """Run every stage, each on the files of the preceding one.

    If there are several processes, all train, and the first one alone runs the later stages.

    Args:
        config: Settings of the run.
        output: Folder of the run.
        command: Command that the report shows for repeating the run.
        overwrite: Whether another run in ``output`` may be replaced.
        bench_seconds: Minimum time in seconds that each file's latency is measured for.
        monitoring: What is recorded and reported during trainings.
        settings: The command's options, to be stored in ``config.yaml``.
        latency_budget_ms: Limit on the median latency of the recommended file. With one, ``best`` products
            are all, because their latencies are not known before they are made.

    Returns:
        The content of ``report.json``, which is also written, with ``report.html``; ``None`` in processes
        that only train.

    Raises:
        UsageError: a name, a path or a value cannot be used; raised before anything is trained.
        GateError: a file broke a rung of the ladder or missed its gate, or none is within the latency budget;
            the report is still written.
        ImfDeployError: a stage failed; finished files remain usable.
    """
    asked = config
    if latency_budget_ms is not None and config.products == (BEST,):
        config = replace(config, products=(ALL,))
    with clock() as times:
        with stage("data"):
            plan = make_plan(config, monitoring)
        data = plan.data
        folder = on_first(lambda: open_run(output, asked.to_dict(), overwrite, settings))
        notes = _Notes()
        notes.add(TRIAL if config.quick else "", *data.notes, *scarcity_notes(data), *plan.remarks)
        with stage("teacher"):
            given = given_teacher(config, data)
            taught = data if given else teacher_data(config, data)
        # A step of large networks on large images may take many seconds.
        with stage("estimate"), track("Estimating the duration", 1):
            expected = estimate_run(
                config, plan, given[0] if given else taught, folder, bench_seconds, monitoring.cuda_graph
            )
        if expected:
            say(expected.sentence())
        with whole(expected.parts) if expected else nullcontext():
            with stage("teacher"):
                teacher, doubt = obtain_teacher(config, data, folder, monitoring, given, taught)
            say(f"Teacher {teacher.spec.name}: {teacher.accuracy:.2%} of {len(data.test)} test images")
            notes.add(doubt)
            distilled = _train(config, plan, teacher, folder, monitoring, notes)
            leave()
            if not is_first():
                return None
            selection = _select(config, distilled, plan, notes)
            products, files, declined = _make_files(config, plan, distilled, selection, folder)
            with stage("latencies"):
                latencies = measure_products(products, files, bench_seconds)
                engines = do_int8_engines_pay(files, bench_seconds)
            notes.add(
                *was_it_busy(latencies),
                *describe_processors(files),
                *describe_halves(files),
                *tensorrt_alone(files),
                *declined,
                *does_int8_pay(files, latencies),
                *engines,
            )
            best = max(p.artifact.accuracy or 0.0 for p in products)
            notes.add(weak_teacher(teacher.accuracy, best) if teacher.accuracy is not None else "")
            with stage("report"):
                report = assemble(
                    config=config,
                    data=data,
                    teacher=teacher,
                    distilled=distilled,
                    products=products,
                    files=files,
                    latencies=latencies,
                    notes=notes.sentences,
                    left_out=left_out(config, selection, plan.engines is not None, command),
                    stages=times.times,
                    command=command,
                    folder=output,
                    latency_budget_ms=latency_budget_ms,
                )
                write_report(report, output)
    _check_gates(report, output)
    return report


@dataclass
class _Notes:
    """Notes for readers, printed at once and stored for the report."""

    sentences: list[str] = field(default_factory=list)

    def add(self, *sentences: str) -> None:
        """Print and store sentences; empty ones are left out."""
        for sentence in filter(None, sentences):
            self.sentences.append(sentence)
            say(sentence)


def _train(
    config: RunSettings,
    plan: Plan,
    teacher: Teacher,
    folder: RunFolder,
    monitoring: MonitoringSettings,
    notes: _Notes,
) -> Distilled:
    """Distil the student, and tune it for INT8 if requested."""
    data, trusted = plan.data, (config.distill.student,)
    with stage("distil"):
        trained = distill(
            data, teacher, config.distill, folder.distilled, monitoring=monitoring, checked=True
        )
    distilled = load_distilled(trained, trusted)
    if plan.tuning:
        with stage("tune"):
            tuned = qat(distilled, data, teacher, plan.tuning, folder.qat, monitoring=monitoring)
        distilled = load_distilled(tuned, trusted)
        notes.add(*describe_qat(tuned, config.int8.gate.max_accuracy_drop))
    return distilled


def _select(config: RunSettings, distilled: Distilled, plan: Plan, notes: _Notes) -> Selection | None:
    """Choose among products if ``best`` is requested and there are validation images."""
    if config.products != (BEST,):
        return None
    if not len(plan.data.validation):
        notes.add("All products are made: there are no validation images for a choice")
        return None
    device = choose_device(config.distill.device)
    with stage("choose"):
        selection = select(rate_products(distilled, plan.names, plan.data, device))
    notes.add(selection.sentence())
    return selection


def _make_files(
    config: RunSettings, plan: Plan, distilled: Distilled, selection: Selection | None, folder: RunFolder
) -> tuple[list[Product], list[DeployableFile], list[str]]:
    """Return the products, their verified files, and the reasons for declined INT8 files."""
    data, trusted = plan.data, (config.distill.student,)
    split = data.validation if len(data.validation) else data.test
    images = next(eval_batches(split, data.preprocess, PROOF_IMAGES))[0]
    names = selection.made if selection else plan.names
    with stage("strip"):
        calibration = data if config.calibrate_confidence else None
        stripped = strip(distilled, names, folder.products, images, overwrite=True, calibration=calibration)
    int8 = QuantizeSettings(**vars(config.int8))
    products, files, declined = [], [], []
    with stage("files"), track("Exporting and verifying", len(stripped), leads=True) as advance:
        for artifact in stripped:
            with stage("evaluate"):
                product = evaluate_product(load_product(artifact.path, trusted), data)
            products.append(product)
            # Sensitive layers are ranked once, because that takes as long as a calibration.
            made, reasons = export_product(
                product,
                data,
                plan.choice.written(plan.engines is not None),
                replace(int8, rank=artifact is stripped[0] and not config.quick),
                plan.engines,
                folder.deploy,
                overwrite=True,
                graph=GraphSettings(config.export.opset),
            )
            declined += reasons
            with stage("verify"):
                files += [file.save() for file in verify(product, made, data, int8.gate)]
            advance(1)
    return products, files, declined


def _check_gates(report: Report, output: Path) -> None:
    """Raise for failed files, and if no file is within the latency budget.

    Raises:
        GateError: naming them.
    """
    failed = [row for row in report.artifacts if row.status == "fail"]
    if failed:
        reasons = [f"{row.path}: {row.reason}" for row in failed[:LISTED]]
        more = [f"and {len(failed) - LISTED} more"] if len(failed) > LISTED else []
        raise GateError(
            f"{len(failed)} file(s) missed their gate: {'; '.join(reasons + more)}",
            f"See {output / 'report.html'}",
        )
    if report.over_budget and not is_trial(report):
        raise GateError(deploy_sentence(report).rstrip("."), f"See {output / 'report.html'}")
