"""Which files are written of a product, and how engines are built."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from imf_deploy.errors import UsageError
from imf_deploy.settings.base import Text, Words, settings, words
from imf_deploy.tasks.names import INPUT

Flavour = Literal["rtx", "tensorrt"]
"""TensorRT-RTX, or the full TensorRT."""
FlavourOption = Literal["auto", "rtx", "tensorrt", "off"]
Precision = Literal["fp32", "fp16", "int8"]

TURING = "75"
RTX_CAPABILITIES = (TURING, "80", "86", "89", "120", "121")
"""Compute capabilities that TensorRT-RTX builds for: Turing, Ampere, Ada, Blackwell."""
DEPLOY: Literal["deploy"] = "deploy"
"""The precisions that are usually deployed: ONNX files in fp32 and int8, and an engine in fp16."""
EVERY_PRECISION: tuple[Precision, ...] = ("fp32", "fp16", "int8")

OLDEST_OPSET = 13
"""The first opset whose Q/DQ operators have a scale for each channel."""
NEWEST_OPSET = 20

_MOST_PROFILES = 16


@dataclass(frozen=True)
class BatchRange:
    """Sizes of the batch that an engine accepts, and the one it is tuned for.

    Attributes:
        min: Smallest batch.
        opt: Batch that the engine is optimised for.
        max: Largest batch.
    """

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        # TensorRT accepts an invalid range silently and then builds nothing.
        if not 1 <= self.min <= self.opt <= self.max:
            raise UsageError(
                f"the batch range {self} does not fit 1 <= MIN <= OPT <= MAX",
                "Give MIN:OPT:MAX, such as 1:8:32",
            )

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"

    @classmethod
    def parse(cls, text: str) -> BatchRange:
        """Parse ``MIN:OPT:MAX``, or one number for a fixed batch.

        Raises:
            UsageError: the text has another form, or the numbers do not rise.
        """
        parts = text.split(":")
        if len(parts) == 1:
            parts *= 3
        if len(parts) != 3 or not all(re.fullmatch("[0-9]{1,9}", part.strip()) for part in parts):
            raise UsageError(
                f"'{text}' is not a batch range", "Give MIN:OPT:MAX, such as 1:8:32, or one number"
            )
        return cls(*(int(part) for part in parts))


def parse_profiles(text: str) -> tuple[BatchRange, ...]:
    """Parse ranges separated by commas, such as ``1,8:32:64``; an engine is optimised for each separately.

    Raises:
        UsageError: one is not a range, there are too many, or two are the same.
    """
    return _differing(tuple(BatchRange.parse(part) for part in text.split(",")), text)


def _differing(profiles: tuple[BatchRange, ...], text: str) -> tuple[BatchRange, ...]:
    if len(profiles) > _MOST_PROFILES or len(set(profiles)) < len(profiles) or not profiles:
        raise UsageError(
            f"'{text}' has {len(profiles)} batch ranges",
            f"Give up to {_MOST_PROFILES} different ones",
        )
    return profiles


def parse_capability(text: str) -> str:
    """Return a compute capability as ``86``, from ``86``, ``sm86``, ``sm_86`` or ``8.6``.

    Raises:
        UsageError: TensorRT-RTX cannot build for it.
    """
    match = re.fullmatch(r"(?:sm_?)?([0-9]{1,2})\.?([0-9])", text.strip().lower())
    name = "".join(match.groups()) if match else ""
    if name not in RTX_CAPABILITIES:
        raise UsageError(
            f"TensorRT-RTX cannot build for compute capability '{text}'",
            f"Choose among {', '.join(RTX_CAPABILITIES)}, or give none for an engine that runs "
            "on RTX GPUs, Ampere and newer",
        )
    return name


def _read_precisions(text: str) -> Any:
    names = words(text)
    unknown = [name for name in names if name not in EVERY_PRECISION]
    if names == (DEPLOY,):
        return DEPLOY
    if "bf16" in unknown:
        raise UsageError(
            "`precisions` bf16 is not written: no runtime on CPUs computes it, so nothing could be verified",
            "Use fp16, where nodes that need the range of fp32 stay in fp32",
        )
    if unknown or not names:
        raise UsageError(
            f"`precisions` '{', '.join(unknown)}' is not known",
            f"Give {DEPLOY} alone, or choose from: {', '.join(EVERY_PRECISION)}",
        )
    return names


Precisions = Annotated[
    Literal["deploy"] | tuple[Precision, ...],
    Text(_read_precisions, lambda value: value if isinstance(value, str) else ",".join(value)),
]


@settings("Export")
class BuildSettings:
    """Options of a build; the defaults are TensorRT's own."""

    version_compatible: Annotated[
        bool,
        Field(
            description="Build engines that later minor versions of TensorRT can load too (full TensorRT)."
        ),
    ] = False
    hardware_compatible: Annotated[
        Literal["ampere+"] | None,
        Field(
            description="Build engines that all GPUs from Ampere on can run; may be slower (full TensorRT)."
        ),
    ] = None
    builder_level: Annotated[
        int | None,
        Field(
            ge=0,
            le=5,
            description="Builder optimisation level, 0 to 5; by default TensorRT's own 3 (full TensorRT).",
        ),
    ] = None
    workspace: Annotated[
        int | None,
        Field(
            ge=1,
            le=1 << 20,
            description="Largest workspace of a layer in MiB; by default the whole memory of the GPU.",
        ),
    ] = None
    strip_weights: Annotated[
        bool,
        Field(
            description="Build engines that refit-engine accepts, each also without weights (full TensorRT)."
        ),
    ] = False


@settings("Export")
class EngineSettings(BuildSettings):
    """How engines are built."""

    trt: Annotated[FlavourOption, Field(description="Which TensorRT builds engines.")] = "auto"
    compute_capability: Annotated[
        Words,
        Field(description="Compute capabilities such as 86,89; empty builds for RTX GPUs from Ampere on."),
    ] = ()
    batch: Annotated[
        tuple[BatchRange, ...],
        Field(
            description="Batch sizes that engines accept: MIN:OPT:MAX, or several ranges such as 1,8:32:64."
        ),
        Text(parse_profiles),
    ] = (BatchRange(1, 1, 32),)
    # It decides only how long a build takes, never its result.
    timing_cache: Annotated[
        Path | None,
        Field(
            description="File to cache the builder's timings in; by default one beside the engines "
            "(full TensorRT)."
        ),
    ] = None

    @model_validator(mode="after")
    def _check_targets(self) -> EngineSettings:
        _differing(self.batch, ",".join(map(str, self.batch)))
        targets = tuple(parse_capability(text) for text in self.compute_capability)
        object.__setattr__(self, "compute_capability", targets)
        return self


@settings("Export")
class GraphSettings:
    """How ONNX files are written."""

    opset: Annotated[
        int | None,
        Field(
            ge=OLDEST_OPSET,
            le=NEWEST_OPSET,
            description="Opset of ONNX files; by default 17, which ONNX Runtime 1.12 and newer load, or 18 "
            "for networks that need it.",
        ),
    ] = None


@settings("Export")
class InterfaceSettings:
    """What an ONNX file takes and returns."""

    input: Annotated[
        Literal["float", "uint8-nhwc", "uint8-nchw"],
        Field(
            description="Also write each ONNX file with this input: bytes that the graph normalises itself, "
            "with the channels last or first; or float, normalised by the application."
        ),
    ] = "float"
    input_size: Annotated[
        Literal["network", "any"],
        Field(
            description="any: the graph also scales and crops, so that images of all sizes can be given "
            "(opset 18)."
        ),
    ] = "network"
    input_name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$",
            description="Name of the input, if a client needs another one, such as pixel_values.",
        ),
    ] = INPUT
    head: Annotated[
        Literal["logits", "probabilities", "top5"],
        Field(
            description="Also write each ONNX file with this output: probabilities of all classes, or those "
            "of the five best classes with their indices."
        ),
    ] = "logits"

    @property
    def suffix(self) -> str:
        """What the names of such files end in; empty for the form that every product has."""
        parts = [
            *([self.input] if self.input != "float" else []),
            *([f"{self.input_size}-size"] if self.input_size != "network" else []),
            *([self.input_name] if self.input_name != INPUT else []),
            *([self.head] if self.head != "logits" else []),
        ]
        return "-".join(parts)


@settings("Export")
class ExportSettings(EngineSettings, GraphSettings):
    """Which files are written, and how engines are built."""

    precisions: Annotated[
        Precisions,
        Field(
            description="fp32,fp16,int8 or some of them, each as an ONNX file and an engine; "
            "or deploy: ONNX files in fp32 and int8, and an engine in fp16."
        ),
    ] = EVERY_PRECISION


def profiles_of(batch: BatchRange | Sequence[BatchRange]) -> tuple[BatchRange, ...]:
    """Return the optimisation profiles of an engine, one range of batches for each."""
    return (batch,) if isinstance(batch, BatchRange) else tuple(batch)
