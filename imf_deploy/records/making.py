"""Parts of records: how files were made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from imf_deploy.forms import Measured, Number, Whole
from imf_deploy.limits import LARGEST_SIDE, MOST_CHANNELS
from imf_deploy.records.checks import Rung
from imf_deploy.settings import Gate

Epoch = dict[str, Measured]
"""``epoch``, ``lr``, terms of the loss by name, and ``validation_accuracy``."""

Layout = Literal["nchw", "nhwc", "tokens"]
"""``[N, C, H, W]``, ``[N, H, W, C]``, or ``[N, tokens, C]`` whose last tokens are a square map."""


@dataclass(frozen=True)
class Block:
    """A place in a network where its features can be tapped.

    Attributes:
        name: Path of the module whose output is tapped, such as ``features.6``.
        channels: Channels of that output.
        size: Height and width of that output, for the traced input.
        layout: How the module lays its output out; :func:`imf_deploy.models.to_map` turns it.
        overwritten: Whether the network changes that output in place afterwards, so that a tap has
            to keep a copy.
    """

    name: str
    channels: Annotated[int, Field(ge=1, le=MOST_CHANNELS)]
    size: Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
    layout: Layout = "nchw"
    overwritten: bool = False


@dataclass(frozen=True)
class Refitted:
    """A linear head that was re-fitted after training.

    Attributes:
        head: Its name.
        before: Validation accuracy from 0 to 1; null without validation images.
        after: The same, re-fitted.
        kept: Whether the re-fitted head was kept: unless it is less accurate.
    """

    head: str
    before: Number | None
    after: Number | None
    kept: bool


@dataclass(frozen=True)
class Tuned:
    """Quantisation-aware training, and what it did to the student's own head.

    Attributes:
        epochs: Passes over the training split.
        lr: Largest learning rate.
        calibration_images: Images that the first ranges come from.
        float_before: Validation accuracy from 0 to 1 before; null without validation images.
        float_after: The same afterwards.
        rounded_after: The same afterwards, with fake quantisation.
    """

    epochs: Whole
    lr: Number
    calibration_images: Whole
    float_before: Number | None
    float_after: Number | None
    rounded_after: Number | None


@dataclass(frozen=True)
class Score:
    """An INT8 file against the float model, on the same validation images.

    Attributes:
        images: Number of images.
        accuracy: Of the INT8 file, from 0 to 1.
        float_accuracy: Of the float model.
        agreement: Part of the images on which both choose the same class.
        divergence: Mean KL divergence of the INT8 file's probabilities from the float model's, in nats.
        mse: Mean squared difference of the logits.
    """

    images: Whole
    accuracy: Number
    float_accuracy: Number
    agreement: Number
    divergence: Measured
    mse: Measured

    def missed(self, gate: Gate) -> str:
        """Return why a gate is missed; empty where it is passed."""
        if not math.isfinite(self.mse):
            return "some logits are not finite"
        return gate.reason(self.accuracy, self.float_accuracy, self.agreement)


@dataclass(frozen=True)
class LayerHarm:
    """What quantising one layer and nothing else does to the network's answer.

    Attributes:
        layer: Name of the layer.
        op_type: Such as ``Conv``.
        divergence: Mean KL divergence from the float model's probabilities; the ranking's order.
        mse: Mean squared difference of the logits.
        agreement: Part of the images that keep their class.
    """

    layer: str
    op_type: str
    divergence: Measured
    mse: Measured
    agreement: Number


@dataclass(frozen=True)
class Output:
    """Which output of an ONNX file holds the logits, and whether it holds probabilities."""

    output: str
    probabilities: bool


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How an INT8 file was made.

    Attributes:
        target: ``onnxruntime-cpu`` or ``tensorrt``.
        method: How ranges were chosen.
        images: Number of calibration images.
        layers: Number of layers that the target's form quantises.
        float_layers: Layers that stay in float.
        sensitivity: Layers by the harm that each does alone, worst first; empty where none were ranked.
    """

    target: Literal["onnxruntime-cpu", "tensorrt"]
    method: str
    images: Whole
    layers: Whole
    float_layers: list[str]
    sensitivity: list[LayerHarm]


@dataclass(frozen=True, kw_only=True)
class Calibrated(Calibration):
    """A calibration with all that its file's record keeps of it.

    Attributes:
        cpus: Which processors a file for ONNX Runtime is for.
        engine_floats: What TensorRT keeps in float; null for ONNX Runtime.
        images_sha256: Hash of the calibration images.
        logits: The output that was judged.
        seed: Seed of the choice of images.
        checked_with: What has read the file.
        session_operators: Operators that an ONNX Runtime session runs, with their numbers.
        session_integer_layers: Number of them that compute in integers.
        cpu: The processor that calibrated.
        validation: The file on validation images.
        tries: Numbers of layers in float that were tried, with the scores.
        doubt: Why the float model's accuracy is suspect; empty where it is not.
    """

    cpus: Literal["all", "vnni"] = "all"
    engine_floats: str | None = None
    images_sha256: str
    logits: Output
    seed: Whole
    checked_with: str
    session_operators: dict[str, Whole]
    session_integer_layers: Whole
    cpu: str
    validation: Score
    tries: list[Epoch]
    doubt: str = ""


@dataclass(frozen=True)
class Gpu:
    """A GPU and its driver.

    Attributes:
        name: Such as ``NVIDIA H200``.
        capability: Compute capability, such as ``90``.
        cuda_driver: Newest CUDA version that the driver serves, such as ``13.0``; empty where unknown.
    """

    name: str
    capability: str
    cuda_driver: str

    def __str__(self) -> str:
        return f"{self.name} (SM{self.capability})"


@dataclass(frozen=True)
class CacheUse:
    """What a build took from its timing cache.

    Attributes:
        file: Name of the file.
        found: Whether timings of this GPU and this version were there.
        complete: Whether they were all that the build needed: it measured nothing and chose the same tactics.
    """

    file: str
    found: bool
    complete: bool


@dataclass(frozen=True)
class Built:
    """How an engine was built.

    Attributes:
        seconds: From the ONNX file to the plan.
        options: Of the build; those at their default are left out.
        gpu: What the full TensorRT built it on; null for TensorRT-RTX.
        timing_cache: What the build took from a timing cache; TensorRT-RTX has none.
    """

    seconds: Number
    options: dict[str, Any] = field(default_factory=dict)
    gpu: Gpu | None = None
    timing_cache: CacheUse | None = None


@dataclass(frozen=True)
class RefitProof:
    """What shows that an engine answers with the weights that were put into it.

    Attributes:
        engine: Hash of the engine that it was made from.
        seconds: How long the refit took.
        checks: The engine against the ONNX form of the weights, at the batch of each profile.
    """

    engine: str
    seconds: Number
    checks: list[Rung]
