"""How an INT8 file is made from a float one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imf_deploy.settings.base import INTERNAL, Count, Part, Whole, settings
from imf_deploy.settings.gate import Gate

Target = Literal["onnxruntime-cpu", "tensorrt"]
"""Whose INT8 the file is written for: each wants another form of Q/DQ."""
Method = Literal["minmax", "entropy", "percentile", "mse"]
Cpus = Literal["all", "vnni"]


@settings("Export")
class Int8Settings:
    """Which processors an INT8 file for ONNX Runtime is for, and what it may cost."""

    int8_cpus: Annotated[
        Cpus,
        Field(
            description="Processors that INT8 files for ONNX Runtime are for: all, or only those with VNNI "
            "or another dot product of bytes."
        ),
    ] = "all"
    gate: Gate = Gate()


@settings()
class QuantizeSettings(Int8Settings):
    """Everything that decides an INT8 file, besides the model and the data."""

    target: Annotated[Target, Field(description="What the file is to run on.")] = "onnxruntime-cpu"
    method: Annotated[Method, Field(description="How the range of an activation is chosen.")] = "minmax"
    images: Annotated[Count, Field(description="Training images to calibrate on.")] = 512
    seed: Annotated[Whole, Field(description="Seed of the choice of images.")] = 0
    rank: Annotated[
        bool,
        Field(description="Rank layers even where the gate holds with none of them in float."),
        INTERNAL,
    ] = True
    sensitivity_images: Annotated[
        Count, Field(description="Validation images that layers are ranked on."), INTERNAL
    ] = 128
    max_float_layers: Annotated[
        Part,
        Field(
            description="Largest part of the layers that may be put back into float; with more of them the "
            "file would be INT8 by name only."
        ),
        INTERNAL,
    ] = 0.5
