"""Settings of latency measurements: what is measured, and for how long."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from imf_deploy.errors import UsageError
from imf_deploy.image_size import check_image_size, read_image_size, size_text
from imf_deploy.settings.base import Count, Text, Whole, settings, words

Runtime = Literal["onnxruntime", "openvino"]
Provider = Literal["cpu", "cuda", "tensorrt", "rtx"]
PyTorchMode = Literal["eager", "channels-last", "compile", "max-autotune"]
OnOff = Literal["on", "off"]
MOST_CLIENTS = 256
LARGEST_MEASURED = 1 << 20
"""Largest side of images in pixels; the size of the whole input is limited as well."""


@settings("How files are run")
class WaySettings:
    """The ways to run a file; every list that applies to it multiplies them."""

    runtime: Annotated[
        tuple[Runtime, ...],
        Field(min_length=1, description="For ONNX files: onnxruntime, openvino, or both."),
        Text(words),
    ] = ("onnxruntime",)
    provider: Annotated[
        tuple[Provider, ...],
        Field(description="For ONNX Runtime: cpu, cuda, tensorrt, rtx; empty follows --device."),
        Text(words),
    ] = ()
    pytorch: Annotated[
        tuple[PyTorchMode, ...],
        Field(min_length=1, description="For PyTorch weights: eager, channels-last, compile, max-autotune."),
        Text(words),
    ] = ("channels-last",)
    device: Annotated[
        str,
        Field(
            pattern=r"^(cpu|cuda(:[0-9]{1,3})?)$",
            description="For PyTorch weights and ONNX files: cpu, cuda, cuda:1 …",
        ),
    ] = "cpu"
    cuda_graph: Annotated[
        tuple[OnOff, ...],
        Field(min_length=1, description="For engines, and PyTorch weights on CUDA: on, off, or both."),
        Text(words),
    ] = ("on", "off")


@settings()
class BenchSettings(WaySettings):
    """What is measured, and for how long."""

    batch: Annotated[
        tuple[Count, ...], Field(min_length=1, description="Batch sizes, such as 1,8,32."), Text(words)
    ] = (1,)
    threads: Annotated[Whole, Field(description="Threads of each runtime; 0 uses every available CPU.")] = 0
    duration: Annotated[float, Field(ge=0, description="Minimum measuring time of each row in seconds.")] = (
        3.0
    )
    iterations: Annotated[Count, Field(description="Minimum number of inferences per row.")] = 10
    warmup: Annotated[float, Field(ge=0, description="Minimum warm-up after each load in seconds.")] = 0.1
    loads: Annotated[
        Count, Field(description="How often each file is loaded; comparisons need at least 6.")
    ] = 20
    image_size: Annotated[
        int | tuple[int, int] | tuple[int, int, int],
        Text(read_image_size, size_text),
        Field(
            description="Side of images in pixels, HEIGHTxWIDTH, or CHANNELSxHEIGHTxWIDTH, for files that do "
            "not fix it."
        ),
    ] = 0
    baseline: Annotated[
        str, Field(description="File or row that ratios are computed against; empty uses the first.")
    ] = ""
    logits: Annotated[
        str,
        Field(
            description="Output of an ONNX file that holds the logits; empty uses the one that fits the "
            "labels."
        ),
    ] = ""
    startup: Annotated[
        bool, Field(description="Measure load time, first inference and memory, each row in its own process.")
    ] = True
    layers: Annotated[
        bool, Field(description="List the layers of engines with their types, tactics and times.")
    ] = False
    clients: Annotated[
        tuple[Annotated[Count, Field(le=MOST_CLIENTS)], ...],
        Field(description="Numbers of clients that send requests at the same time, such as 2,8."),
        Text(words),
    ] = ()

    @model_validator(mode="after")
    def _check_names(self) -> BenchSettings:
        if self.image_size:
            check_image_size(self.image_size, 1, LARGEST_MEASURED)
        for name in ("runtime", "provider", "pytorch", "cuda_graph"):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                raise UsageError(f"`{name}` {','.join(given)} contains a value twice", "Give each value once")
        return self
