"""Assembly of the content of ``report.json`` from the files and measurements of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imf_deploy.benchmark.latency import Latency
from imf_deploy.benchmark.products import FileLatency
from imf_deploy.data import DataSet, Split
from imf_deploy.data.counts import class_counts
from imf_deploy.distillation.distill import Distilled
from imf_deploy.method.products import Product
from imf_deploy.records.files import DeployableFile, EngineFile, OnnxFile, ProductFile, verified
from imf_deploy.records.report import (
    ArtifactRow,
    LeftOut,
    Percentiles,
    Report,
    Speedup,
    Stage,
)
from imf_deploy.report.changes import changed_images
from imf_deploy.report.recommend import recommend
from imf_deploy.settings import RunSettings
from imf_deploy.show.thumbnails import thumbnails
from imf_deploy.stages import Spent
from imf_deploy.teaching.teacher import Teacher


def assemble(
    *,
    config: RunSettings,
    data: DataSet,
    teacher: Teacher,
    distilled: Distilled,
    products: list[Product],
    files: Sequence[DeployableFile],
    latencies: dict[str, FileLatency],
    notes: list[str],
    left_out: LeftOut | None,
    stages: Mapping[str, Spent],
    command: str,
    folder: Path,
    latency_budget_ms: float | None = None,
) -> Report:
    """Return the report of a run.

    Args:
        config: Settings of the run.
        data: Data that the networks were trained and tested on.
        teacher: The teacher.
        distilled: The distilled student.
        products: Stripped products with their accuracies.
        files: Exported files, verified.
        latencies: Latencies by hash of the file.
        notes: Remarks for the reader.
        left_out: Files that could have been made but were not.
        stages: Duration of each stage so far, by name.
        command: The command that reproduces the run.
        folder: Folder that paths are relative to.
        latency_budget_ms: Limit on the median latency of the recommended file.
    """
    train = config.distill
    return report_of(
        files,
        folder,
        products=products,
        latencies=latencies,
        test=data.test,
        student=distilled.spec.name,
        teacher=teacher.spec.name,
        dataset=data.name,
        seed=train.seed,
        command=command,
        teacher_accuracy=teacher.accuracy,
        notes=notes,
        left_out=left_out,
        stages=[
            Stage(name, round(spent.wall, 2), round(spent.processor, 2)) for name, spent in stages.items()
        ],
        config={
            **asdict(train),
            "qat_epochs": config.qat_epochs,
            "quick": config.quick,
            "stem_strides": list(distilled.spec.stem_strides),
            "train_images": len(data.train),
            "validation_images": len(data.validation),
            "test_images": len(data.test),
            "data_fingerprint": data.fingerprint,
        },
        classes=class_counts(data),
        unlabelled=distilled.artifact.unlabelled,
        history=distilled.artifact.history,
        teacher_history=teacher.history,
        refitted=distilled.artifact.refitted,
        blocks=distilled.artifact.blocks,
        latency_budget_ms=latency_budget_ms,
    )


def report_of(
    files: Sequence[DeployableFile],
    folder: Path,
    *,
    products: Sequence[Product] = (),
    latencies: Mapping[str, FileLatency] | None = None,
    test: Split | None = None,
    **about: Any,
) -> Report:
    """Return the report of verified files, wherever they come from.

    Args:
        files: The files.
        folder: Folder that paths are relative to.
        products: Products that the files were made from, with their accuracies.
        latencies: Latencies by hash of the file.
        test: Test images, to show those that a file classifies differently.
        about: Fields of :class:`imf_deploy.records.report.Report` about the training, such as ``student``.
    """
    from imf_deploy.benchmark.conditions import conditions

    by_hash = {product.artifact.sha256: product.artifact for product in products}
    known = latencies or {}
    rows = [artifact_row(file, by_hash.get(file.source), known.get(file.sha256), folder) for file in files]
    changed = (entry["image"] for entry in changed_images(rows))
    trial = about.get("config", {}).get("quick") is True
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        status="fail" if any(row.status == "fail" for row in rows) else "pass",
        environment=conditions(),
        strip=[product.artifact.strip for product in products if product.artifact.strip],
        confidences={
            product.name: product.artifact.confidence for product in products if product.artifact.confidence
        },
        artifacts=rows,
        pictures=thumbnails(test, changed) if test else {},
        recommendation=None if trial else recommend(rows, about.get("latency_budget_ms")),
        **about,
    )


def artifact_row(
    file: DeployableFile, product: ProductFile | None, latency: FileLatency | None, folder: Path
) -> ArtifactRow:
    """Return the row of a verified file; values that were not measured are null."""
    timed: dict[str, Any] = (
        {}
        if latency is None
        else {
            "latency_ms": _percentiles(latency.file),
            "pytorch_latency_ms": _percentiles(latency.pytorch),
            "speedup": Speedup(latency.speedup.value, latency.speedup.low, latency.speedup.high),
            "threads": latency.threads,
            "batch": 1,
            "memory_bytes": latency.memory_bytes,
        }
    )
    calibration = file.calibration if isinstance(file, OnnxFile) else None
    of_product = product.validation_accuracy if product else None
    return ArtifactRow(
        **vars(verified(file)),
        **timed,
        path=Path(os.path.relpath(file.path, folder)).as_posix(),
        sha256=file.sha256,
        product=file.product,
        precision=file.precision,
        format=file.format,
        parameters=file.parameters,
        macs=file.macs,
        size_bytes=file.path.stat().st_size,
        # Files are chosen by this accuracy: an INT8 file's own, for others their product's.
        validation_accuracy=calibration.validation.accuracy if calibration else of_product,
        targets=file.targets if isinstance(file, EngineFile) else None,
        calibration=calibration,
    )


def _percentiles(latency: Latency) -> Percentiles:
    return Percentiles(latency.p50, latency.p90, latency.p99)
