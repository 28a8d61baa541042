"""Settings of answers for images: how a file runs, and what is shown."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imf_deploy.limits import LONGEST
from imf_deploy.settings.base import INTERNAL, Count, Whole, settings
from imf_deploy.settings.gate import Gate, Limits
from imf_deploy.tasks.metric import NAMES


@settings("How the file is run")
class HowToRun:
    """Device, threads and trusted code of a file."""

    device: Annotated[
        str,
        Field(
            pattern=r"^(cpu|cuda(:[0-9]{1,3})?)$",
            description="For ONNX files and PyTorch weights: cpu, cuda, cuda:1 …",
        ),
    ] = "cpu"
    threads: Annotated[Whole, Field(description="Threads; 0 uses every available CPU.")] = 0
    trust_model: Annotated[
        tuple[str, ...], Field(max_length=LONGEST, description="Trusted factories."), INTERNAL
    ] = ()


@settings()
class Shown:
    """What is shown of every answer."""

    top: Annotated[Count, Field(description="Number of classes for each image, the most probable first.")] = 5


@settings("Data")
class JudgedSettings:
    """Which labelled images files are judged on."""

    split: Annotated[
        Literal["", "train", "validation", "test"],
        Field(
            description="train, validation or test; by default the test images, or all images if there is no "
            "test split."
        ),
    ] = ""


@settings("Gate")
class ReplacementGate(Gate):
    """What a candidate may lose against the file that it may replace."""

    max_accuracy_drop: Annotated[
        float,
        Field(
            ge=0, le=100, description="Gate: largest loss of accuracy against the current file, in points."
        ),
    ] = 1.0
    min_agreement: Annotated[
        float,
        Field(
            ge=0, le=1, description="Gate: smallest part of the images that keep their class, from 0 to 1."
        ),
    ] = 0.0
    gate: Annotated[
        Limits,
        Field(
            description="Gate on other metrics, such as balanced_accuracy=1.0,ece=2: how much worse than the "
            f"current file's each may be, in points, or in nats for nll. Names: {NAMES}, and functions of "
            "metric."
        ),
    ] = ()
    max_slowdown: Annotated[
        float | None,
        Field(
            gt=0,
            description="Gate: largest latency relative to the current file's, such as 1.1; by default any.",
        ),
    ] = None
