"""Settings of answers for images: how a file runs, and what is shown."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from imf_deploy.limits import LONGEST
from imf_deploy.settings.base import INTERNAL, Count, Whole, settings


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
