"""The record of a run, ``report.json``: fractions from 0 to 1, times in milliseconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel

from imf_deploy.errors import ImfDeployError, visible
from imf_deploy.files import existing_file, finite, read_json, write_json
from imf_deploy.forms import STRICT, Number, Whole, from_json
from imf_deploy.records.checks import StripProof, Verification
from imf_deploy.records.making import Block, Calibration, Confidence, Epoch, Refitted
from imf_deploy.records.upgrade import SCHEMA, take_schema

LOSSES = {
    "cross_entropy": "cross-entropy",
    "student_kd": "KD, student's head",
    "branch_kd": "KD, branches",
    "prefix_kd": "KD, attentive logits",
    "feature": "feature distance",
}
"""Loss terms of one epoch's record, each times its weight, with the names that reports show."""


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of the latency of one inference in milliseconds; outliers are not removed."""

    p50: Number
    p90: Number
    p99: Number


@dataclass(frozen=True)
class Speedup:
    """Latency of PyTorch (channels-last, eager) divided by this file's, with a 95 % interval."""

    ratio: Number
    low: Number
    high: Number


@dataclass(frozen=True, kw_only=True)
class ArtifactRow(Verification):
    """One deployable file and its measurements; null if they were not made.

    Attributes:
        path: Relative to the run's folder.
        sha256: Hash of the file.
        product: ``plain`` or ``imf@k``.
        precision: ``fp32``, ``fp16`` or ``int8``.
        format: ``onnx``, ``tensorrt`` or ``tensorrt_rtx``.
        latency_ms: Latency of one inference.
        pytorch_latency_ms: Latency of one inference of the PyTorch model, in the same rounds.
        speedup: ``pytorch_latency_ms`` divided by ``latency_ms``.
        threads: Number of threads, for both.
        batch: Images per inference.
        memory_bytes: Increase of a process's peak memory by loading and running the file.
        parameters: Number of the product's parameters.
        macs: Multiply-accumulates of the product for one image.
        size_bytes: Size of the file.
        validation_accuracy: Accuracy that the file is chosen by: an INT8 file's own, otherwise that of its
            product in PyTorch.
        targets: Architectures of a TensorRT-RTX engine; null for other files.
        calibration: How INT8 was made; null for float files.
    """

    path: str
    sha256: str
    product: str
    precision: str
    format: str
    latency_ms: Percentiles | None = None
    pytorch_latency_ms: Percentiles | None = None
    speedup: Speedup | None = None
    threads: Whole | None = None
    batch: Whole | None = None
    memory_bytes: Whole | None = None
    parameters: Whole | None
    macs: Whole | None
    size_bytes: Whole
    validation_accuracy: Number | None
    targets: list[str] | None = None
    calibration: Calibration | None = None

    @property
    def p50(self) -> float | None:
        """Median latency in milliseconds; ``None`` for a file that was not timed."""
        return self.latency_ms.p50 if self.latency_ms else None


@dataclass(frozen=True)
class Recommendation:
    """The file to deploy, chosen on validation data.

    Attributes:
        path: The file.
        reason: Why it was chosen.
        gate: The gate that it and the other candidates passed, in words.
    """

    path: str
    reason: str
    gate: str = ""


@dataclass(frozen=True)
class LeftOut:
    """Files that ``best`` products or ``deploy`` precisions left out of a run, and the command for them."""

    products: list[str]
    files: list[str]
    command: str


@dataclass(frozen=True)
class Stage:
    """Duration of one stage; nested stages are not counted twice."""

    stage: str
    wall_s: Number
    processor_s: Number


@dataclass(frozen=True)
class ClassImages:
    """Numbers of images of one class."""

    label: str
    train: Whole
    validation: Whole
    test: Whole


class Report(BaseModel):
    """The content of ``report.json``.

    Attributes:
        student: Name of the student's architecture.
        teacher: Name of the teacher's architecture; empty if nothing was distilled, as are the seed and the
            settings.
        dataset: Name of the data.
        seed: Seed of the distillation.
        command: The command that reproduces the run; empty if no command made it.
        teacher_accuracy: Accuracy of the teacher on the test images.
        created: Time in UTC, ISO 8601.
        status: ``fail`` if any file failed.
        notes: Remarks for the reader.
        left_out: Files that were not made; null if all were.
        stages: Duration of each stage.
        environment: Machine and versions.
        config: Settings and sizes.
        classes: Numbers of images of each class, in the order of the logits.
        unlabelled: Number of images without labels that the distillation used.
        history: One record for each epoch of the distillation.
        teacher_history: One record for each epoch of the teacher's training, if its record has them.
        refitted: Heads that were re-fitted at the end.
        blocks: Blocks of the student.
        strip: The proof of each product.
        confidences: How the confidences of products were calibrated, by product.
        artifacts: One row for each deployable file.
        pictures: Test images as data URLs, by position.
        recommendation: The file to deploy; null if none is recommended.
        latency_budget_ms: Limit on the median latency of the recommended file; null for none.
    """

    model_config = STRICT

    student: str
    teacher: str = ""
    dataset: str = ""
    seed: Whole | None = None
    command: str = ""
    teacher_accuracy: Number | None = None
    created: str
    status: Literal["pass", "fail"]
    notes: list[str]
    left_out: LeftOut | None = None
    stages: list[Stage] = []
    environment: dict[str, Any]
    config: dict[str, Any] = {}
    classes: list[ClassImages] = []
    unlabelled: Whole = 0
    history: list[Epoch] = []
    teacher_history: list[Epoch] = []
    refitted: list[Refitted] = []
    blocks: list[Block] = []
    strip: list[StripProof]
    confidences: dict[str, Confidence] = {}
    artifacts: list[ArtifactRow]
    pictures: dict[str, str]
    recommendation: Recommendation | None
    latency_budget_ms: Number | None = None

    @property
    def over_budget(self) -> ArtifactRow | None:
        """The fastest file that passed, if all of them are slower than the latency budget."""
        timed = [row for row in self.artifacts if row.status == "pass" and row.p50 is not None]
        fastest = min(timed, key=lambda row: row.p50 or 0.0, default=None)
        if self.latency_budget_ms is None or fastest is None:
            return None
        return fastest if (fastest.p50 or 0.0) > self.latency_budget_ms else None

    @classmethod
    def of(cls, content: dict[str, Any]) -> Self:
        """Build the report from JSON values, with null for numbers that are not finite.

        Raises:
            ValueError: a field is missing, has the wrong type, or is out of bounds; the message names it.
        """
        return from_json(cls, finite(content))

    def finite(self) -> Self:
        """Return the report as it would be read back after :meth:`save`."""
        return self.of(self.model_dump(mode="json"))

    def save(self, path: Path) -> None:
        """Write the report, atomically."""
        write_json(path, {"schema": SCHEMA, **self.model_dump(mode="json")})


def read_report(path: Path) -> Report:
    """Read the ``report.json`` of a run; it need not come from a trusted source.

    Raises:
        UsageError: the file does not exist.
        ImfDeployError: it is damaged, not a report, or of another version.
    """
    content = read_json(existing_file(path, "a run's report.json"))
    if "schema" not in content or "artifacts" not in content:
        raise ImfDeployError(f"{path} is not a report of imf-deploy", "Give the report.json of a run")
    command = content.get("command")
    own = visible(command) if isinstance(command, str) and command else "imf-deploy distill-and-export"
    take_schema(content, str(path), f"Create it again with: {own}")
    try:
        return Report.of(content)
    except ValueError as error:
        raise ImfDeployError(
            f"{path} is not a complete report: {error}",
            "It is damaged or of another version: run distill-and-export again",
        ) from None
