"""The form of a record's evidence: what stages write about a file, and what others read of it.

A record holds what its kind of file has; further keys are kept, and what is here has this form.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

Shapes = dict[str, list[int | str]]
"""Name to shape of each input or output; a string is a dynamic dimension."""


Status = Literal["pass", "fail", "not-run"]


class Block(TypedDict):
    """A block of the student that carries a branch."""

    name: str
    channels: int
    size: int


class Removed(TypedDict):
    """A training-only module that a product no longer has."""

    module: str
    parameters: int


class Rung(TypedDict):
    """One step of the parity ladder; null where nothing was compared."""

    name: str
    against: str
    status: Status
    reason: str
    images: int
    max_abs_diff: float | None
    tolerance: float | None
    agreement: float | None
    min_agreement: float | None


class StripProof(TypedDict):
    """What shows that one product is the trained network without its training-only parts."""

    product: str
    ladder: list[Rung]
    logits_identical: bool
    max_abs_diff: float
    images: int
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int
    removed: list[Removed]
    teacher_tensors_found: int
    attentive_tensors_found: int
    passed: bool


class Refitted(TypedDict):
    """A linear head that was re-fitted after training, and its validation accuracy before and after.

    Without validation images both are null. What was less accurate was not kept.
    """

    head: str
    before: float | None
    after: float | None
    kept: bool


class Checked(TypedDict):
    """An INT8 file against the float file, on validation images."""

    images: int
    accuracy: float
    float_accuracy: float
    agreement: float


class Output(TypedDict):
    """Which output holds the logits, and whether it holds probabilities."""

    output: str
    probabilities: bool


class Calibrated(TypedDict):
    """How an INT8 file was made."""

    target: str
    cpus: NotRequired[Literal["all", "vnni"]]
    logits: NotRequired[Output]
    method: str
    images: int
    layers: int
    float_layers: list[str]
    validation: NotRequired[Checked]
    sensitivity: NotRequired[list[dict[str, Any]]]


class BuiltOn(TypedDict):
    """The GPU that an engine was built on."""

    name: str
    capability: str
    cuda_driver: str


class Timings(TypedDict):
    """What a build took from its timing cache."""

    file: str
    found: bool
    complete: bool


class Built(TypedDict):
    """How an engine was built; options at their default are left out."""

    seconds: float
    options: dict[str, Any]
    gpu: BuiltOn | None
    timing_cache: Timings | None


class RefitProof(TypedDict):
    """What shows that an engine answers with the weights that were put into it."""

    engine: str
    seconds: float
    checks: list[Rung]


class Evidence(TypedDict, total=False):
    """Everything that a later stage relies on."""

    accuracy: float | None
    validation_accuracy: float | None
    teacher_accuracy: float | None
    images: int
    history: list[dict[str, float | None]]
    refitted: list[Refitted]
    blocks: list[Block]
    teacher: dict[str, Any]
    teacher_features: list[Block]
    teacher_tensors: list[str]
    config: dict[str, Any]
    qat: dict[str, Any]
    data: str
    data_config: dict[str, Any]
    evaluated_on: str
    strip: StripProof
    parameters: int
    macs: int
    source: str
    operators: dict[str, int]
    opset: int
    batch: str
    targets: list[str]
    build: Built
    stripped: bool
    refit: RefitProof
    gate: dict[str, float]
    calibration: Calibrated
    verify: dict[str, Any]
