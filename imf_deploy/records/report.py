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
from imf_deploy.records.making import Block, Calibration, Epoch, Refitted
from imf_deploy.records.upgrade import SCHEMA, take_schema

LOSSES = {
    "cross_entropy": "cross-entropy",
    "student_kd": "KD, student's head",
    "branch_kd": "KD, branches",
    "prefix_kd": "KD, attentive logits",
    "feature": "feature distance",
}
"""Loss terms of one epoch's record, each times its weight, and what people call them."""


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of one inference in milliseconds, without outlier clipping."""

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
    """One deployable file and what was measured of it; null where it was not.

    Attributes:
        path: Relative to the run's folder.
        sha256: Hash of the file.
        product: ``plain`` or ``imf@k``.
        precision: ``fp32``, ``fp16`` or ``int8``.
        format: ``onnx``, ``tensorrt`` or ``tensorrt_rtx``.
        latency_ms: Of one inference.
        pytorch_latency_ms: Of one inference of the PyTorch model, in the same rounds.
        speedup: The second divided by the first.
        threads: Of both.
        batch: Images of one inference.
        memory_bytes: What a process needs more at its peak once it has loaded and run the file.
        parameters: Of the product.
        macs: Of the product, for one image.
        size_bytes: Of the file.
        validation_accuracy: What the file is chosen by: an INT8 file's own, else its product's in PyTorch.
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


@dataclass(frozen=True)
class Recommendation:
    """The file to deploy, chosen on validation data."""

    path: str
    reason: str


@dataclass(frozen=True)
class LeftOut:
    """What a run with ``best`` products or ``deploy`` precisions left out, and the command that adds it."""

    products: list[str]
    files: list[str]
    command: str


@dataclass(frozen=True)
class Stage:
    """How long one stage took; each second is counted once."""

    stage: str
    wall_s: Number
    processor_s: Number


class Report(BaseModel):
    """The content of ``report.json``.

    Attributes:
        student: Name of the architecture.
        teacher: The same; empty where nothing was distilled, as are the seed and the settings.
        dataset: Name of the data.
        seed: Of the distillation.
        command: How to make it again; empty where no command made it.
        teacher_accuracy: On the test images.
        created: Time in UTC, ISO 8601.
        status: Whether no file failed.
        notes: What a reader should know.
        left_out: What was not made; null where everything was.
        stages: How long each stage took.
        environment: Machine and versions.
        config: Settings and sizes.
        history: One record for each epoch of the distillation.
        teacher_history: The same of the teacher, where its record has it.
        refitted: Heads that were re-fitted at the end.
        blocks: The student's blocks.
        strip: The proof of each product.
        artifacts: Each deployable file.
        pictures: Test images as data URLs, by position.
        recommendation: What to deploy; null where nothing is recommended.
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
    history: list[Epoch] = []
    teacher_history: list[Epoch] = []
    refitted: list[Refitted] = []
    blocks: list[Block] = []
    strip: list[StripProof]
    artifacts: list[ArtifactRow]
    pictures: dict[str, str]
    recommendation: Recommendation | None

    @classmethod
    def of(cls, content: dict[str, Any]) -> Self:
        """Return the report that JSON values hold, with null for what is not finite.

        Raises:
            ValueError: a field is missing, of another type, or out of its bounds; the message names it.
        """
        return from_json(cls, finite(content))

    def finite(self) -> Self:
        """Return the report as it is read back after :meth:`save`."""
        return self.of(self.model_dump(mode="json"))

    def save(self, path: Path) -> None:
        """Write the report, atomically."""
        write_json(path, {"schema": SCHEMA, **self.model_dump(mode="json")})


def read_report(path: Path) -> Report:
    """Read the ``report.json`` of a run, which may be anybody's.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: it is damaged, not a report, or of another version.
    """
    content = read_json(existing_file(path, "a run's report.json"))
    if "schema" not in content or "artifacts" not in content:
        raise ImfDeployError(f"{path} is not a report of imf-deploy", "Give the report.json of a run")
    command = content.get("command")
    own = visible(command) if isinstance(command, str) and command else "imf-deploy distill-and-export"
    take_schema(content, str(path), f"Make it again with: {own}")
    try:
        return Report.of(content)
    except ValueError as error:
        raise ImfDeployError(
            f"{path} is not a whole report: {error}",
            "It is damaged or of another version: run distill-and-export again",
        ) from None
