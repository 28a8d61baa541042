"""The form of a record's evidence: what stages write about a file, and what others read of it.

A record holds what its kind of file has; further keys are kept, and what is here has this form.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from imf_deploy.report.schema import Block, Refitted, StripProof

Shapes = dict[str, list[int | str]]
"""Name to shape of each input or output; a string is a dynamic dimension."""


class Checked(TypedDict):
    """An INT8 file against the float file, on validation images."""

    images: int
    accuracy: float
    float_accuracy: float
    agreement: float


class Calibrated(TypedDict):
    """How an INT8 file was made."""

    target: str
    method: str
    images: int
    layers: int
    float_layers: list[str]
    validation: NotRequired[Checked]
    sensitivity: NotRequired[list[dict[str, Any]]]


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
    gate: dict[str, float]
    calibration: Calibrated
    verify: dict[str, Any]
