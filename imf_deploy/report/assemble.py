"""Put together what a run made and measured, as ``report.json`` holds it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from imf_deploy.artifact import Artifact
from imf_deploy.benchmark.products import NOISE
from imf_deploy.report.changes import changed_images
from imf_deploy.report.schema import SCHEMA, ArtifactRow, Calibration, Epoch, LeftOut, Recommendation, Report
from imf_deploy.show.format import significant
from imf_deploy.show.thumbnails import thumbnails

if TYPE_CHECKING:
    from imf_deploy.benchmark.products import FileLatency
    from imf_deploy.data import DataSet
    from imf_deploy.distillation.distill import Distilled
    from imf_deploy.method.products import Product
    from imf_deploy.run.config import RunConfig
    from imf_deploy.stages import Spent
    from imf_deploy.teaching.teacher import Teacher

# A faster file may be this much less accurate on validation images than the best one.
MAX_ACCURACY_DROP = 0.01
# Rounding must not decide: 149 right of 300 are within a point of 152.
_EPSILON = 1e-9
_NOT_RUN = ("accuracy", "accuracy_interval", "pytorch_accuracy", "pytorch_accuracy_interval", "agreement",
            "max_abs_diff", "mean_abs_diff", "cosine", "images")  # fmt: skip
_NOT_TIMED = ("latency_ms", "pytorch_latency_ms", "speedup", "threads", "batch", "memory_bytes")


def assemble(
    *,
    config: RunConfig,
    data: DataSet,
    teacher: Teacher,
    distilled: Distilled,
    products: list[Product],
    files: list[Artifact],
    latencies: dict[str, FileLatency],
    notes: list[str],
    left_out: LeftOut | None,
    stages: Mapping[str, Spent],
    command: str,
    folder: Path,
) -> Report:
    """Return the report of a run.

    Args:
        config: What was asked for.
        data: What it was trained and tested on.
        teacher: What taught.
        distilled: What was trained.
        products: What was stripped, with its accuracies.
        files: What was exported, verified.
        latencies: By hash of the file.
        notes: What a reader should know.
        left_out: What could have been made, and was not.
        stages: How long each stage took so far, by name.
        command: How to make it again.
        folder: What paths are relative to.
    """
    from imf_deploy.benchmark.conditions import conditions

    by_hash = {product.artifact.sha256: product for product in products}
    rows = [
        artifact_row(file, by_hash[file.evidence["source"]].artifact, latencies.get(file.sha256), folder)
        for file in files
    ]
    evidence = distilled.artifact.evidence
    train = config.distill.train
    return {
        "schema": SCHEMA,
        "student": distilled.spec.name,
        "teacher": teacher.spec.name,
        "dataset": data.name,
        "seed": train.seed,
        "command": command,
        "teacher_accuracy": teacher.accuracy,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "status": "fail" if any(row["status"] == "fail" for row in rows) else "pass",
        "notes": notes,
        "left_out": left_out,
        "stages": [
            {"stage": name, "wall_s": round(spent.wall, 2), "processor_s": round(spent.processor, 2)}
            for name, spent in stages.items()
        ],
        "environment": conditions(),
        "config": {
            **asdict(config.distill.weights),
            **asdict(train),
            "qat_epochs": config.qat_epochs,
            "quick": config.quick,
            "stem_strides": list(distilled.spec.stem_strides),
            "train_images": len(data.train),
            "validation_images": len(data.validation),
            "test_images": len(data.test),
            "data_fingerprint": data.fingerprint,
        },
        "history": evidence["history"],
        "teacher_history": cast("list[Epoch]", teacher.history),
        "refitted": evidence.get("refitted", []),
        "blocks": evidence["blocks"],
        "strip": [product.artifact.evidence["strip"] for product in products],
        "artifacts": rows,
        "pictures": thumbnails(data.test, (entry["image"] for entry in changed_images(rows))),
        "recommendation": None if config.quick else recommend(rows),
    }


def artifact_row(file: Artifact, product: Artifact, latency: FileLatency | None, folder: Path) -> ArtifactRow:
    """Return one file's row; what was not measured is null."""
    verified: dict[str, Any] = file.evidence["verify"]
    row: dict[str, Any] = {
        "path": Path(os.path.relpath(file.path, folder)).as_posix(),
        "sha256": file.sha256,
        "product": file.product,
        "precision": file.precision,
        "format": file.format,
        "status": verified["status"],
        "reason": verified["reason"],
        "gate": verified["gate"],
        "ladder": verified["ladder"],
        "classes": verified.get("classes", []),
        "worst": verified.get("worst", []),
        **{key: verified.get(key) for key in _NOT_RUN},
        **(latency.to_dict() if latency else dict.fromkeys(_NOT_TIMED)),
        "parameters": product.evidence["parameters"],
        "macs": product.evidence["macs"],
        "size_bytes": file.path.stat().st_size,
        "validation_accuracy": _validation_accuracy(file, product),
    }
    if "targets" in file.evidence:
        row["targets"] = file.evidence["targets"]
    if "calibration" in file.evidence:
        known: dict[str, Any] = file.evidence["calibration"]
        row["calibration"] = {key: known[key] for key in Calibration.__annotations__}
    if "portability" in verified:
        row["portability"] = verified["portability"]
    return cast(ArtifactRow, row)


def _validation_accuracy(file: Artifact, product: Artifact) -> float | None:
    """Return what to choose by: the product's accuracy, or an INT8 file's own, which differs."""
    if "calibration" in file.evidence:
        own: float = file.evidence["calibration"]["validation"]["accuracy"]
        return own
    return product.evidence.get("validation_accuracy")


def recommend(rows: list[ArtifactRow]) -> Recommendation | None:
    """Choose the file to deploy: the fastest whose validation accuracy is within one point of the best.

    That is the accuracy on validation images, never on test images: an INT8 file's own, and of other
    files their product's in PyTorch.
    Only files that passed and were timed are considered, and latencies within 3 % are taken as
    equal. Without a validation split there is no recommendation.
    """
    fit = [
        (row, row["validation_accuracy"], row["latency_ms"]["p50"])
        for row in rows
        if row["status"] == "pass" and row["latency_ms"] and row["validation_accuracy"] is not None
    ]
    if not fit:
        return None
    best = max(accuracy for _, accuracy, _ in fit)
    good = [entry for entry in fit if entry[1] >= best - MAX_ACCURACY_DROP - _EPSILON]
    fastest = min(p50 for _, _, p50 in good)
    # A tie goes to the earlier row: plain before imf@k, fp32 before fp16.
    row, accuracy, p50 = next(entry for entry in good if entry[2] <= fastest * (1 + NOISE))
    own = "its own accuracy" if "calibration" in row else "its product's accuracy in PyTorch"
    limit = f"{MAX_ACCURACY_DROP * 100:.0f} point"
    reason = (
        f"the fastest file ({significant(p50)} ms at batch 1) of those within {limit} of the best "
        f"on the validation images ({own} there is {accuracy:.1%}, the best is {best:.1%})"
    )
    return {"path": row["path"], "reason": reason}
