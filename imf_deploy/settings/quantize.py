"""Settings of the quantisation to INT8."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imf_deploy.settings.base import INTERNAL, Count, Part, Whole, settings
from imf_deploy.settings.gate import Gate

Target = Literal["onnxruntime-cpu", "tensorrt"]
"""Runtime that an INT8 file is written for: each needs its own form of Q/DQ."""
Method = Literal["minmax", "entropy", "percentile", "mse"]
Cpus = Literal["all", "vnni"]
Effort = Literal["normal", "best"]


@settings("Export")
class Int8Settings:
    """Which processors an INT8 file for ONNX Runtime is for, and how it is made and when it is kept."""

    int8_cpus: Annotated[
        Cpus,
        Field(
            description="Processors that INT8 files for ONNX Runtime are for: all, or only those with VNNI "
            "or another dot product of bytes."
        ),
    ] = "all"
    effort: Annotated[
        Effort,
        Field(
            description="Work that is put into an INT8 file: normal, or best, which tries more steps on all "
            "calibration images and takes a few times as long."
        ),
    ] = "normal"
    keep_int8: Annotated[
        bool,
        Field(
            description="Keep INT8 files without timing them; otherwise one that is not at least 3 % faster "
            "than the float files on this machine is declined."
        ),
    ] = False
    gate: Gate = Gate()


@settings()
class QuantizeSettings(Int8Settings):
    """Everything that decides an INT8 file apart from the model and the data."""

    target: Annotated[Target, Field(description="Runtime that the file is for.")] = "onnxruntime-cpu"
    method: Annotated[Method, Field(description="How the ranges of activations are chosen.")] = "minmax"
    images: Annotated[Count, Field(description="Number of training images to calibrate on.")] = 512
    seed: Annotated[Whole, Field(description="Seed for choosing these images.")] = 0
    rank: Annotated[
        bool,
        Field(
            description="Rank the layers by sensitivity even if the gate is passed with all of them in INT8."
        ),
        INTERNAL,
    ] = True
    sensitivity_images: Annotated[
        Count, Field(description="Number of validation images to rank the layers on."), INTERNAL
    ] = 64
    max_float_layers: Annotated[
        Part,
        Field(
            description="Largest part of the layers that may be put back into float; with more of them the "
            "file would be INT8 by name only."
        ),
        INTERNAL,
    ] = 0.5


@settings()
class HalfSettings:
    """Everything that decides an fp16 file apart from the model and the data."""

    images: Annotated[Count, Field(description="Number of training images to measure activations on.")] = 512
    seed: Annotated[Whole, Field(description="Seed for choosing these images.")] = 0
    gate: Gate = Gate()
