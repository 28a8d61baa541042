"""What a calibration is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from imf_deploy import defaults
from imf_deploy.errors import UsageError
from imf_deploy.verification.gate import Gate

Target = Literal["onnxruntime-cpu", "tensorrt"]
"""Whose INT8 the file is written for: each wants another form of Q/DQ."""
Method = Literal["minmax", "entropy", "percentile", "mse"]
"""How the range of an activation is chosen."""
Cpus = Literal["all", "vnni"]
"""Which processors an INT8 file for ONNX Runtime's CPU provider is for."""

TARGETS: tuple[Target, ...] = get_args(Target)
METHODS: tuple[Method, ...] = get_args(Method)
CPUS: tuple[Cpus, ...] = get_args(Cpus)


@dataclass(frozen=True)
class CalibrationConfig:
    """Everything that decides an INT8 file, besides the model and the data.

    Attributes:
        target: Who is to run the file.
        method: How ranges are chosen.
        images: Number of training images that ranges are measured on.
        seed: Seed of the choice of images.
        gate: What the file may cost on validation images.
        rank: Whether layers are ranked even where the gate holds with none of them in float.
        sensitivity_images: Number of validation images that layers are ranked on.
        max_float_layers: Largest part of the layers that repair may put back into float; beyond it
            the file would be INT8 by name only.
        cpus: Which processors a file for ONNX Runtime's CPU provider is for: ``all``, or those with VNNI (or
            another dot product of bytes) alone.
    """

    target: Target = "onnxruntime-cpu"
    method: Method = "minmax"
    images: int = defaults.CALIBRATION_IMAGES
    seed: int = 0
    gate: Gate = field(default_factory=Gate)
    rank: bool = True
    sensitivity_images: int = 128
    max_float_layers: float = 0.5
    cpus: Cpus = "all"

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UsageError: one of them.
        """
        if self.target not in TARGETS:
            raise UsageError(f"--target has no '{self.target}'", f"Choose from: {', '.join(TARGETS)}")
        if self.cpus not in CPUS:
            raise UsageError(f"--int8-cpus has no '{self.cpus}'", f"Choose from: {', '.join(CPUS)}")
        if self.method not in METHODS:
            raise UsageError(f"--method has no '{self.method}'", f"Choose from: {', '.join(METHODS)}")
        for name, count in (("--images", self.images), ("sensitivity_images", self.sensitivity_images)):
            if count < 1:
                raise UsageError(f"{name} {count} is too few", "Give at least 1")
        self.gate.check()
        if not 0 <= self.max_float_layers < 1:
            raise UsageError(f"max_float_layers {self.max_float_layers} is no part of 1", "Give 0 to below 1")
