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

Flavour = Literal["rtx", "tensorrt"]
"""TensorRT-RTX, or the full TensorRT."""
FlavourOption = Literal["auto", "rtx", "tensorrt", "off"]
Precision = Literal["fp32", "fp16", "int8"]

TURING = "75"
RTX_CAPABILITIES = (TURING, "80", "86", "89", "120", "121")
"""What TensorRT-RTX builds for: Turing, Ampere, Ada, Blackwell."""
DEPLOY: Literal["deploy"] = "deploy"
"""The precisions that are usually deployed: ONNX files in fp32 and int8, and an engine in fp16."""
EVERY_PRECISION: tuple[Precision, ...] = ("fp32", "fp16", "int8")

_MOST_PROFILES = 16


@dataclass(frozen=True)
class BatchRange:
    """Sizes of the batch that an engine accepts, and the one it is tuned for.

    Attributes:
        min: Smallest batch.
        opt: Batch to be fastest at.
        max: Largest batch.
    """

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        # TensorRT takes a wrong range silently and then builds nothing.
        if not 1 <= self.min <= self.opt <= self.max:
            raise UsageError(
                f"the batch range {self} does not rise from at least 1", "Give MIN:OPT:MAX, such as 1:8:32"
            )

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"

    @classmethod
    def parse(cls, text: str) -> BatchRange:
        """Read ``MIN:OPT:MAX``, or one number for a batch that never changes.

        Raises:
            UsageError: it has another form, or does not rise.
        """
        parts = text.split(":")
        if len(parts) == 1:
            parts *= 3
        if len(parts) != 3 or not all(re.fullmatch("[0-9]{1,9}", part.strip()) for part in parts):
            raise UsageError(f"'{text}' is no batch range", "Give MIN:OPT:MAX, such as 1:8:32, or one number")
        return cls(*(int(part) for part in parts))


def parse_profiles(text: str) -> tuple[BatchRange, ...]:
    """Read ranges separated by commas, such as ``1,8:32:64``; an engine is tuned for each by itself.

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
    """Return a compute capability as ``86``, however it is written: ``86``, ``sm86``, ``sm_86``, ``8.6``.

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
    if unknown or not names:
        raise UsageError(
            f"`precisions` has no '{', '.join(unknown)}'",
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
        Field(description="Engines that later versions of the same major TensorRT load too (full TensorRT)."),
    ] = False
    hardware_compatible: Annotated[
        Literal["ampere+"] | None,
        Field(
            description="Engines that other GPUs run too, Ampere and newer; may be slower (full TensorRT)."
        ),
    ] = None
    builder_level: Annotated[
        int | None,
        Field(
            ge=0,
            le=5,
            description="How much the builder tries, 0 to 5; by default TensorRT's own 3 (full TensorRT).",
        ),
    ] = None
    workspace: Annotated[
        int | None,
        Field(
            ge=1,
            le=1 << 20,
            description="Most scratch memory of a layer in MiB; by default the whole memory of the GPU.",
        ),
    ] = None
    strip_weights: Annotated[
        bool,
        Field(description="Engines that refit-engine accepts, and each without weights too (full TensorRT)."),
    ] = False


@settings("Export")
class EngineSettings(BuildSettings):
    """How engines are built."""

    trt: Annotated[FlavourOption, Field(description="Which TensorRT builds engines.")] = "auto"
    compute_capability: Annotated[
        Words,
        Field(description="Targets such as 86,89; empty builds for RTX GPUs, Ampere and newer."),
    ] = ()
    batch: Annotated[
        tuple[BatchRange, ...],
        Field(description="Batches that engines accept: MIN:OPT:MAX, or several ranges such as 1,8:32:64."),
        Text(parse_profiles),
    ] = (BatchRange(1, 1, 32),)
    # It decides nothing about an engine but how soon it is built.
    timing_cache: Annotated[
        Path | None,
        Field(
            description="File that keeps the builder's timings; by default one beside the engines "
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
class ExportSettings(EngineSettings):
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
