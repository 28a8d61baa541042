"""Settings of a check: the runtimes and processors that a file is checked in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imf_deploy.settings.base import Count, Text, Words, settings, words

Cpu = Literal["haswell", "neoverse-n1"]


@settings("Check")
class CheckSettings:
    """Where a file is checked, and on how many images."""

    runtime: Annotated[
        Words,
        Field(
            max_length=32,
            description="Runtimes, with a version if another than the newest is meant: onnxruntime==1.18, "
            "openvino, opencv, tract, node, web, tensorrt.",
        ),
    ] = ()
    cpu: Annotated[
        tuple[Cpu, ...],
        Field(description="Processors to emulate, where qemu-user is installed: haswell, neoverse-n1."),
        Text(words),
    ] = ()
    images: Annotated[
        int,
        Field(ge=1, le=1000, description="Test images of the recorded data that answers are compared on."),
    ] = 32
    offline: Annotated[
        bool, Field(description="Install nothing, and use tables of what runtimes load instead.")
    ] = False
    install_seconds: Annotated[
        Count, Field(description="Longest time for the installation of one runtime, in seconds.")
    ] = 300
