"""Parts of records: how files were made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from imf_deploy.forms import Measured, Number, Whole
from imf_deploy.image_size import Size, sides
from imf_deploy.limits import MOST_CHANNELS
from imf_deploy.records.checks import Rung
from imf_deploy.records.metrics import MetricValue, missed
from imf_deploy.settings import Gate
from imf_deploy.settings.distill import MOST_REFINING

Epoch = dict[str, Measured]
"""``epoch``, ``lr``, terms of the loss by name, and ``validation_accuracy``."""

Layout = Literal["nchw", "nhwc", "tokens"]
"""``[N, C, H, W]``, ``[N, H, W, C]``, or ``[N, tokens, C]`` whose last tokens are a map."""


@dataclass(frozen=True)
class Block:
    """A place in a network where its features can be tapped.

    Attributes:
        name: Path of the module whose output is tapped, such as ``features.6``.
        channels: Channels of that output.
        size: Size of that output for the traced input: the side of a square, or height and width.
        layout: Memory layout of the output; :func:`imf_deploy.models.to_map` converts it.
        overwritten: Whether the network changes that output in place afterwards, so that a tap has
            to copy it.
    """

    name: str
    channels: Annotated[int, Field(ge=1, le=MOST_CHANNELS)]
    size: Size
    layout: Layout = "nchw"
    overwritten: bool = False

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of that output."""
        return sides(self.size)


@dataclass(frozen=True)
class StartingWeights:
    """Weights that a training started from.

    Attributes:
        source: What they are: published weights by name, or a file.
        sha256: Hash of their file.
        license: Tag of their licence, if the library that publishes them states it.
        classes: Number of classes that they were trained for; null if they have no classifier.
        new_head: Whether the classifier was left out and started fresh.
    """

    source: str
    sha256: str
    license: str | None
    classes: int | None
    new_head: bool


@dataclass(frozen=True)
class IfdShape:
    """How the IFD of a branch is built on its block.

    Attributes:
        outputs: Channels of its output; with fewer than the teacher's, a layer that only training has maps
            them to the teacher's.
        side: Size that the block's output is halved towards.
        refining: Number of units after those that halve.
        refined: Channels between these units.
    """

    outputs: Annotated[int, Field(ge=1, le=MOST_CHANNELS)]
    side: Size
    refining: Annotated[int, Field(ge=0, le=MOST_REFINING)]
    refined: Annotated[int, Field(ge=1, le=MOST_CHANNELS)]


@dataclass(frozen=True)
class Refitted:
    """A linear head that was re-fitted after training.

    Attributes:
        head: Name of the head.
        before: Validation accuracy before, from 0 to 1; null without validation images.
        after: Validation accuracy of the re-fitted head.
        kept: Whether the re-fitted head was kept; it is unless it is less accurate.
    """

    head: str
    before: Number | None
    after: Number | None
    kept: bool


@dataclass(frozen=True)
class Confidence:
    """Calibrated confidences of a product: a temperature that its last layer was divided by.

    Attributes:
        layer: Name of the layer.
        temperature: Above 1 if the network was too sure, below 1 if it was not sure enough.
        images: Number of validation images that it was fitted on, as are all values below.
        nll_before: Negative log-likelihood in nats with a temperature of 1.
        nll_after: Negative log-likelihood with the temperature.
        ece_before: Expected calibration error from 0 to 1 with a temperature of 1.
        ece_after: Expected calibration error with the temperature.
    """

    layer: str
    temperature: Annotated[float, Field(gt=0, le=1000)]
    images: Whole
    nll_before: Number
    nll_after: Number
    ece_before: Number
    ece_after: Number


@dataclass(frozen=True)
class Tuned:
    """Quantisation-aware training, and its effect on the student's own head.

    Attributes:
        epochs: Passes over the training split.
        lr: Largest learning rate.
        calibration_images: Number of images that the initial ranges come from.
        float_before: Validation accuracy from 0 to 1 before; null without validation images.
        float_after: Validation accuracy afterwards.
        rounded_after: Validation accuracy afterwards with fake quantisation.
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
        accuracy: Accuracy of the INT8 file, from 0 to 1.
        float_accuracy: Accuracy of the float model.
        agreement: Part of the images on which both choose the same class.
        divergence: Mean KL divergence of the INT8 file's probabilities from the float model's, in nats.
        mse: Mean squared difference of the logits.
        metrics: Further metrics of the INT8 file and of the float model (``reference``), by name.
    """

    images: Whole
    accuracy: Number
    float_accuracy: Number
    agreement: Number
    divergence: Measured
    mse: Measured
    metrics: dict[str, MetricValue] = field(default_factory=dict)

    def missed(self, gate: Gate) -> str:
        """Return why a gate is missed; empty if it is passed."""
        if not math.isfinite(self.mse):
            return "some logits are not finite"
        return missed(gate, self.accuracy, self.float_accuracy, self.agreement, self.metrics)

    def attempt(self) -> Epoch:
        """Return the numbers of an attempt; metrics are those of the INT8 file."""
        own = {name: getattr(self, name) for name in self.__annotations__ if name != "metrics"}
        return own | {name: math.nan if m.value is None else m.value for name, m in self.metrics.items()}


@dataclass(frozen=True)
class LayerHarm:
    """Effect of quantising only one layer on the network's output.

    Attributes:
        layer: Name of the layer.
        op_type: Operator, such as ``Conv``.
        divergence: Mean KL divergence from the float model's probabilities, which orders the ranking.
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


@dataclass(frozen=True)
class Step:
    """A step that was tried on an INT8 file.

    Attributes:
        name: ``ranges``, ``equalisation`` or ``rounding``.
        before: Mean KL divergence from the float model on some validation images without the step.
        after: The same with the step.
        kept: Whether the file was made with it.
    """

    name: str
    before: Measured
    after: Measured
    kept: bool


@dataclass(frozen=True)
class Speed:
    """Latency of an INT8 file relative to the fastest float file of its network, measured side by side.

    Attributes:
        processor: Name of the processor or GPU that ran both.
        instructions: Instruction sets of the processor that kernels choose from; empty for a GPU.
        threads: Number of threads of both.
        other: Name of the float file.
        ratio: Latency of the INT8 file divided by that of the other.
        low: Lower end of the ratio's 95 % interval.
        high: Upper end of that interval.
    """

    processor: str
    instructions: list[str]
    threads: Whole
    other: str
    ratio: Number
    low: Number
    high: Number

    def machine(self) -> str:
        """Return what it was measured on, such as ``AMD EPYC, 2 threads``."""
        if not self.instructions:
            return self.processor
        return f"{self.processor}, {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How an INT8 file was made.

    Attributes:
        target: ``onnxruntime-cpu`` or ``tensorrt``.
        method: How ranges were chosen.
        images: Number of calibration images.
        layers: Number of layers that can be quantised for the target.
        float_layers: Layers that stay in float.
        sensitivity: Layers by the error that each causes alone, worst first; empty if none were ranked.
    """

    target: Literal["onnxruntime-cpu", "tensorrt"]
    method: str
    images: Whole
    layers: Whole
    float_layers: list[str]
    sensitivity: list[LayerHarm]


@dataclass(frozen=True, kw_only=True)
class Calibrated(Calibration):
    """A calibration with everything that the file's record keeps.

    Attributes:
        cpus: Processors that a file for ONNX Runtime is for.
        engine_floats: Parts that TensorRT keeps in float; null for ONNX Runtime.
        images_sha256: Hash of the calibration images.
        logits: The output that was evaluated.
        seed: Seed for choosing the images.
        checked_with: Runtime that the file was checked with.
        session_operators: Operators that an ONNX Runtime session runs, with their counts.
        session_integer_layers: Number of layers that compute in integers.
        cpu: The processor that ran the calibration.
        validation: Score of the file on validation images.
        tries: Numbers of layers in float that were tried, with their scores.
        doubt: Why the float model's accuracy is suspect; empty if it is not.
        steps: Steps beyond measured ranges, in their order.
        speed: Latency relative to the float files, by which the file was kept; null if it was not measured.
        speed_unknown: Why it was not measured; empty if it was.
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
    steps: list[Step] = field(default_factory=list)
    speed: Speed | None = None
    speed_unknown: str = ""


@dataclass(frozen=True)
class Gpu:
    """A GPU and its driver.

    Attributes:
        name: Name, such as ``NVIDIA H200``.
        capability: Compute capability, such as ``90``.
        cuda_driver: Newest CUDA version that the driver supports, such as ``13.0``; empty if unknown.
    """

    name: str
    capability: str
    cuda_driver: str

    def __str__(self) -> str:
        return f"{self.name} (SM{self.capability})"


@dataclass(frozen=True)
class CacheUse:
    """Use of a timing cache in a build.

    Attributes:
        file: Name of the file.
        found: Whether it held timings of this GPU and this version.
        complete: Whether they were all that the build needed: it measured nothing and chose the same tactics.
    """

    file: str
    found: bool
    complete: bool


@dataclass(frozen=True)
class Built:
    """How an engine was built.

    Attributes:
        seconds: Time from the ONNX file to the plan.
        options: Options of the build; those at their default are left out.
        gpu: GPU that the full TensorRT built on; null for TensorRT-RTX.
        timing_cache: Use of the timing cache; TensorRT-RTX has none.
    """

    seconds: Number
    options: dict[str, Any] = field(default_factory=dict)
    gpu: Gpu | None = None
    timing_cache: CacheUse | None = None


@dataclass(frozen=True)
class RefitProof:
    """Proof that a refitted engine computes with its new weights.

    Attributes:
        engine: Hash of the engine that it was made from.
        seconds: Duration of the refit.
        checks: The engine against the ONNX form of the weights, at the batch of each profile.
    """

    engine: str
    seconds: Number
    checks: list[Rung]
