"""The form of ``report.json``: fractions from 0 to 1, times in milliseconds, sizes in bytes.

Whatever was not measured is null; nothing is left out except where marked ``NotRequired``.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from imf_deploy.evidence import Block, Refitted, Rung, Status, StripProof

SCHEMA = 2
"""2: the ladder and the gate of every file, classes, worst images and their pictures are required."""

LOSSES = {
    "cross_entropy": "cross-entropy",
    "student_kd": "KD, student's head",
    "branch_kd": "KD, branches",
    "prefix_kd": "KD, attentive logits",
    "feature": "feature distance",
}
"""Loss terms of one epoch's record, each times its weight, and what people call them."""

Epoch = dict[str, float | None]
"""``epoch``, ``lr``, loss terms by name (see ``LOSSES``) and ``validation_accuracy``."""

Interval = tuple[float, float] | list[float]
"""Both ends of a 95 % interval."""


class Latency(TypedDict):
    """Percentiles of one inference, without outlier clipping."""

    p50: float
    p90: float
    p99: float


class Speedup(TypedDict):
    """Latency of PyTorch (channels-last, eager) divided by this file's, with a 95 % interval."""

    ratio: float
    low: float
    high: float


class Harm(TypedDict):
    """What quantising one layer and nothing else does; a divergence of null ruins the network."""

    layer: str
    op_type: str
    divergence: float | None
    agreement: float


class Calibration(TypedDict):
    """How an INT8 file was made; layers are ranked by the harm that each alone does, worst first."""

    target: str
    method: str
    images: int
    layers: int
    float_layers: list[str]
    sensitivity: list[Harm]


class ClassChange(TypedDict):
    """One class of the test split: how many images PyTorch and the file get right, and how many move."""

    label: str
    images: int
    pytorch_right: int
    right: int
    changed: int


class Worst(TypedDict):
    """A test image on which a file is far from PyTorch, by its position in the split."""

    image: int
    label: str
    pytorch: str
    pytorch_probability: float
    answer: str
    probability: float
    divergence: float


class Gate(TypedDict):
    """What a file may lose against PyTorch: points of accuracy, and agreement from 0 to 1."""

    max_accuracy_drop: float
    min_agreement: float


class Portability(TypedDict):
    """How an INT8 file for ONNX Runtime answers on processors whose sums saturate, beside all others."""

    cpus: str
    status: Literal["portable", "same", "differs", "unknown"]
    layers: int
    images: int
    agreement: float | None
    max_abs_diff: float | None
    operators: list[str]
    sentence: str


class ArtifactRow(TypedDict):
    """One deployable file and what was measured of it; null where it could not be run."""

    path: str
    sha256: str
    product: str
    precision: str
    format: str
    status: Status
    reason: str | None
    accuracy: float | None
    accuracy_interval: Interval | None
    pytorch_accuracy: float | None
    pytorch_accuracy_interval: Interval | None
    agreement: float | None
    max_abs_diff: float | None
    mean_abs_diff: float | None
    cosine: float | None
    gate: Gate
    ladder: list[Rung]
    classes: list[ClassChange]
    worst: list[Worst]
    images: int | None
    latency_ms: Latency | None
    pytorch_latency_ms: Latency | None
    speedup: Speedup | None
    threads: int | None
    batch: int | None
    memory_bytes: int | None
    parameters: int
    macs: int
    size_bytes: int
    validation_accuracy: float | None
    targets: NotRequired[list[str]]
    calibration: NotRequired[Calibration]
    portability: NotRequired[Portability]


class Recommendation(TypedDict):
    """The file to deploy, chosen on validation data."""

    path: str
    reason: str


class LeftOut(TypedDict):
    """What a run with ``best`` products or ``deploy`` precisions did not make."""

    products: list[str]
    files: list[str]
    command: str


class Stage(TypedDict):
    """How long one stage took; each second is counted once."""

    stage: str
    wall_s: float
    processor_s: float


class Report(TypedDict):
    """The content of ``report.json``."""

    schema: int
    student: str
    teacher: str
    dataset: str
    seed: int
    command: str
    teacher_accuracy: float | None
    created: str
    status: Literal["pass", "fail"]
    notes: list[str]
    left_out: NotRequired[LeftOut | None]
    stages: NotRequired[list[Stage]]
    environment: dict[str, Any]
    config: dict[str, Any]
    history: list[Epoch]
    teacher_history: NotRequired[list[Epoch]]
    refitted: NotRequired[list[Refitted]]
    blocks: list[Block]
    strip: list[StripProof]
    artifacts: list[ArtifactRow]
    pictures: dict[str, str]
    recommendation: Recommendation | None
