"""Parts of records: proofs and measurements of files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import computed_field

from imf_deploy.forms import Measured, Number, Whole
from imf_deploy.records.metrics import Interval, MetricValue
from imf_deploy.settings import Gate

Status = Literal["pass", "fail", "not-run"]

SATURATING = "x86 processors without VNNI (AVX2, and AVX512 without VNNI)"
"""Processors that saturate the sum of two products at 16 bits."""
PORTABLE = "portable: no input can make a sum saturate, on any processor"


@dataclass(frozen=True)
class Rung:
    """One step of the parity ladder.

    Attributes:
        name: Form of the network, such as ``folded`` or ``ONNX int8``.
        against: The rung that it is compared with.
        status: ``pass``, ``fail``, or ``not-run`` with a reason.
        reason: Why the rung fails or was not run; empty if it passes.
        images: Number of images that were compared; if 0, the remaining fields are null.
        max_abs_diff: Largest absolute difference of any logit.
        tolerance: Largest allowed ``max_abs_diff``.
        agreement: Part of the images on which both choose the same class.
        min_agreement: Smallest allowed ``agreement``.
    """

    name: str
    against: str
    status: Status
    reason: str = ""
    images: Whole = 0
    max_abs_diff: Number | None = None
    tolerance: Number | None = None
    agreement: Number | None = None
    min_agreement: Number | None = None


def first_broken(ladder: Sequence[Rung]) -> Rung | None:
    """Return the first rung that fails."""
    return next((rung for rung in ladder if rung.status == "fail"), None)


@dataclass(frozen=True)
class Removed:
    """A training-only module that a product no longer has, and its number of parameters."""

    module: str
    parameters: Whole


@dataclass(frozen=True)
class StripProof:
    """Proof that stripping removed the training-only parts and did not change the outputs.

    Attributes:
        product: ``plain`` or ``imf@k``.
        ladder: Training graph to stripped, and for ``imf@k`` to folded; measured on the file as read back.
        logits_identical: Whether logits before and after are the same bit for bit.
        max_abs_diff: Largest difference between logits before and after.
        images: Number of images that were compared.
        parameters_before: Number of parameters of the training graph.
        parameters_after: Number of parameters of the file.
        macs_before: Multiply-accumulates of the training graph for one image.
        macs_after: Multiply-accumulates of the file for one image.
        removed: Modules of the training graph that are not in the file.
        keys_match: Whether the file's tensors are those of the architecture, no more and no less.
        teacher_tensors_found: Number of tensors of the file that are equal to one of the teacher's.
        attentive_tensors_found: Number of tensors of the file that are equal to the attentive weights.
    """

    product: str
    ladder: list[Rung]
    logits_identical: bool
    max_abs_diff: Measured
    images: Whole
    parameters_before: Whole
    parameters_after: Whole
    macs_before: Whole
    macs_after: Whole
    removed: list[Removed]
    keys_match: bool
    teacher_tensors_found: Whole
    attentive_tensors_found: Whole

    @property
    def broken(self) -> str:
        """Why the proof fails, in words; empty if it holds."""
        if rung := first_broken(self.ladder):
            return f"the rung '{rung.name}' fails: {rung.reason}"
        if not self.keys_match:
            return "the tensors are not those of the architecture"
        if self.teacher_tensors_found or self.attentive_tensors_found:
            return "the file contains tensors of the teacher or attentive weights"
        return ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether every part of the proof holds."""
        return not self.broken


@dataclass(frozen=True)
class BatchCheck:
    """A network at a small batch against itself at a larger one, on the same images.

    Attributes:
        images: Number of images.
        batch: Images in the larger batch.
        max_abs_diff: Largest absolute difference of any logit.
        tolerance: Largest allowed difference.
        agreement: Part of the images whose class is the same.
        reason: Why the outputs depend on the batch; empty if they do not.
        small: Images in the small batch: 1, or the batch that another optimisation profile is tuned for.
    """

    images: Whole
    batch: Whole
    max_abs_diff: Measured
    tolerance: Measured
    agreement: Measured
    reason: str
    small: Whole = 1


@dataclass(frozen=True)
class ClassChange:
    """One class of the test split: the file's answers and PyTorch's.

    Attributes:
        label: Name of the class.
        images: Number of its images.
        pytorch_right: Number of its images that PyTorch classifies correctly.
        right: Number of its images that the file classifies correctly.
        changed: Number of its images for which the file chooses another class than PyTorch.
        predicted: Number of images of any class for which the file chooses this one; null in records of
            release 0.2.0.
        pytorch_predicted: The same of PyTorch.
        confused: Number of its images for which the file chooses each wrong class: a row of the confusion
            matrix without its diagonal, which is ``right``. An empty name stands for logits with NaN. Only
            the 10,000 largest cells of a matrix are kept.
        pytorch_confused: The same of PyTorch.
    """

    label: str
    images: Whole
    pytorch_right: Whole
    right: Whole
    changed: Whole
    predicted: Whole | None = None
    pytorch_predicted: Whole | None = None
    confused: dict[str, Whole] = field(default_factory=dict)
    pytorch_confused: dict[str, Whole] = field(default_factory=dict)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def recall(self) -> float | None:
        """Part of the images of the class that get it; null for a class without images."""
        return part(self.right, self.images)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def precision(self) -> float | None:
        """Part of the images which get the class that are of it; null if none gets it."""
        return part(self.right, self.predicted)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def pytorch_recall(self) -> float | None:
        """The same of PyTorch."""
        return part(self.pytorch_right, self.images)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def pytorch_precision(self) -> float | None:
        """The same of PyTorch."""
        return part(self.pytorch_right, self.pytorch_predicted)


def part(count: int, whole: int | None) -> float | None:
    """Return a fraction; ``None`` of nothing."""
    return count / whole if whole else None


@dataclass(frozen=True)
class WorstInput:
    """An image on which a file differs much from PyTorch.

    Attributes:
        image: Position in the test split.
        label: Correct class.
        pytorch: Class that PyTorch chooses, with ``pytorch_probability``.
        answer: Class that the file chooses, with ``probability``.
        divergence: KL divergence of the file's probabilities from PyTorch's, in nats.
    """

    image: Whole
    label: str
    pytorch: str
    pytorch_probability: Measured
    answer: str
    probability: Measured
    divergence: Measured


@dataclass(frozen=True)
class Portability:
    """Whether an INT8 file gives the same outputs on x86 processors without VNNI as on all others.

    Attributes:
        status: ``portable`` if no input can make a sum saturate; ``same`` or ``differs``, by the outputs on
            some images; ``unknown`` if an operator cannot be emulated.
        layers: Number of layers that some input can make saturate.
        images: Number of images that were compared; 0 if none had to be.
        agreement: Part of the images that keep their class on these processors.
        max_abs_diff: Largest absolute difference of a logit.
        operators: Operators that cannot be emulated.
        cpus: Processors that the file was made for.
    """

    status: Literal["portable", "same", "differs", "unknown"]
    layers: Whole = 0
    images: Whole = 0
    agreement: Number | None = None
    max_abs_diff: Number | None = None
    operators: tuple[str, ...] = ()
    cpus: Literal["all", "vnni"] = "all"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def sentence(self) -> str:
        """The sentence that reports show, without a full stop."""
        if self.status == "portable":
            return f"INT8 {PORTABLE}"
        if self.status == "unknown":
            return (
                f"INT8 on {SATURATING}: not known, because {', '.join(self.operators)} cannot be emulated; "
                "measure the file on such a processor"
            )
        if self.status == "same":
            return f"INT8 on {SATURATING}: same outputs on {self.images} images"
        return (
            f"INT8 on {SATURATING}: different outputs; {self.agreement:.2%} of {self.images} images keep "
            f"their class, and logits differ by up to {self.max_abs_diff:.2g}"
        )


@dataclass(frozen=True, kw_only=True)
class Verification:
    """A file against the PyTorch model that it was made from, on the test split; null if it was not run.

    Attributes:
        status: Whether the ladder holds and the file passes its gate.
        reason: Why the file fails or was not run; null if it passes.
        gate: The gate of the file.
        doubt: Why the accuracy of the product is suspect; empty if it is not.
        ladder: Rungs from the training graph down to the file.
        images: Number of images.
        max_abs_diff: Largest absolute difference of any logit.
        mean_abs_diff: Mean absolute difference of all logits.
        cosine: Cosine of the angle between all logits of one and of the other.
        agreement: Part of the images on which both choose the same class.
        accuracy: Accuracy of the file, from 0 to 1.
        accuracy_interval: Its 95 % confidence interval (Wilson).
        pytorch_accuracy: Accuracy of the PyTorch model.
        pytorch_accuracy_interval: Its 95 % confidence interval.
        metrics: Further metrics of the file and of the PyTorch model (``reference``), by name.
        uncalibrated: Metrics of the PyTorch model without its temperature, by name; empty if its confidences
            were not calibrated.
        classes: Results for each class, in the order of the logits.
        worst: Images on which the file differs most from PyTorch, changed classes first.
        batches: Outputs for single images and for a batch; null for a file with a fixed batch.
        portability: Outputs of an INT8 file for ONNX Runtime on other processors; null for other files.
    """

    status: Status
    reason: str | None
    gate: Gate
    doubt: str = ""
    ladder: list[Rung]
    images: Whole | None = None
    max_abs_diff: Number | None = None
    mean_abs_diff: Number | None = None
    cosine: Number | None = None
    agreement: Number | None = None
    accuracy: Number | None = None
    accuracy_interval: Interval | None = None
    pytorch_accuracy: Number | None = None
    pytorch_accuracy_interval: Interval | None = None
    metrics: dict[str, MetricValue] = field(default_factory=dict)
    uncalibrated: dict[str, Number | None] = field(default_factory=dict)
    classes: list[ClassChange] = field(default_factory=list)
    worst: list[WorstInput] = field(default_factory=list)
    batches: BatchCheck | None = None
    portability: Portability | None = None
