"""Options that several commands share, each described once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imf_deploy import defaults

DATA = "Data"
TRAINING = "Training"
METHOD = "Method"
EXPORT = "Export"

LR_DROPS = ",".join(map(str, defaults.LR_DROPS))


class Trt(StrEnum):
    """Which TensorRT builds engines."""

    AUTO = "auto"
    RTX = "rtx"
    TENSORRT = "tensorrt"
    OFF = "off"


class Int8Cpus(StrEnum):
    """Which processors INT8 files for ONNX Runtime are for."""

    ALL = "all"
    VNNI = "vnni"


class LrSchedule(StrEnum):
    """How the learning rate falls."""

    COSINE = "cosine"
    STEP = "step"
    CONSTANT = "constant"


class Augmentation(StrEnum):
    """How training images are changed."""

    SHIFT_FLIP = "shift-flip"
    CROP_FLIP = "crop-flip"
    NONE = "none"


class TrainPrecision(StrEnum):
    """Arithmetic of training."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


Data = Annotated[
    str,
    typer.Option(
        help="A folder with train/CLASS/*.png; or fashion-mnist-subset (embedded), fashion_mnist, cifar10 …",
        rich_help_panel=DATA,
    ),
]
DataNow = Annotated[
    str, typer.Option("--data", help="Where the data lies now; empty opens what it was distilled on.")
]
DataRoot = Annotated[
    str,
    typer.Option(
        help="Folder that torchvision's data sets are in, or are downloaded to.", rich_help_panel=DATA
    ),
]
ImageSize = Annotated[
    int,
    typer.Option(
        help="Side of the network's input in pixels; 0 derives it from the images.", rich_help_panel=DATA
    ),
]
ValFraction = Annotated[
    float, typer.Option(help="Part of the training data held out to choose by.", rich_help_panel=DATA)
]
SplitSeed = Annotated[int, typer.Option(help="Seed of every hold-out.", rich_help_panel=DATA)]

Student = Annotated[
    str,
    typer.Option(
        help="mobilenetv2, resnet18 …, torchvision:NAME, timm:NAME, cifar:NAME or package.module:factory.",
        rich_help_panel=METHOD,
    ),
]
StudentTaps = Annotated[
    str,
    typer.Option(
        help="Modules of the student that end a block, such as layer2,layer3; empty finds them.",
        rich_help_panel=METHOD,
    ),
]
TrustModel = Annotated[
    list[str] | None,
    typer.Option(
        "--trust-model", help="package.module:factory that a file's record names, and that may be run."
    ),
]
StemStrides = Annotated[
    str,
    typer.Option(
        help="Strides at the first reductions, such as 1,1, or own; empty chooses by image size.",
        rich_help_panel=METHOD,
    ),
]
Alpha = Annotated[float, typer.Option(help="Weight of the feature distance.", rich_help_panel=METHOD)]
Beta = Annotated[
    float, typer.Option(help="Weight of the divergence between softened logits.", rich_help_panel=METHOD)
]
Temperature = Annotated[float, typer.Option(help="Softens both sides' logits.", rich_help_panel=METHOD)]
Refit = Annotated[
    bool,
    typer.Option(help="Fit linear heads again at the end, on features at rest.", rich_help_panel=METHOD),
]

Epochs = Annotated[int, typer.Option(help="Passes over the training split.", rich_help_panel=TRAINING)]
BatchSize = Annotated[
    int, typer.Option(help="Images a training step, over all processes.", rich_help_panel=TRAINING)
]
Lr = Annotated[float, typer.Option(help="Largest learning rate.", rich_help_panel=TRAINING)]
Schedule = Annotated[
    LrSchedule,
    typer.Option("--lr-schedule", help="How the rate falls after the warm-up.", rich_help_panel=TRAINING),
]
LrDrops = Annotated[
    str,
    typer.Option(
        help="Parts of the training after which the step schedule divides the rate by 10.",
        rich_help_panel=TRAINING,
    ),
]
Warmup = Annotated[
    float, typer.Option(help="Part of the training in which the rate rises.", rich_help_panel=TRAINING)
]
Nesterov = Annotated[bool, typer.Option(help="Nesterov's momentum.", rich_help_panel=TRAINING)]
Shift = Annotated[
    int | None,
    typer.Option(
        help="Pixels that training images are moved at most; by default a 14th of their side.",
        rich_help_panel=TRAINING,
    ),
]
Augment = Annotated[
    Augmentation,
    typer.Option(
        help="Changes of training images; crop-flip takes random parts of photos, as for ImageNet.",
        rich_help_panel=TRAINING,
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of weights, order and augmentation.", rich_help_panel=TRAINING)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …", rich_help_panel=TRAINING)]
Flip = Annotated[bool, typer.Option(help="Mirror half of the training images.", rich_help_panel=TRAINING)]
Precision = Annotated[
    TrainPrecision,
    typer.Option(
        "--train-precision",
        help="bf16 pays on CPUs with AMX, and on GPUs that large networks keep busy; fp16 needs a GPU.",
        rich_help_panel=TRAINING,
    ),
]

QatEpochs = Annotated[
    int,
    typer.Option(
        help="Epochs of quantisation-aware training after the distillation; for INT8 that misses its gate.",
        rich_help_panel=TRAINING,
    ),
]

Products = Annotated[str, typer.Option(help="all, or names such as plain,imf@2.", rich_help_panel=EXPORT)]
ProductsOrBest = Annotated[
    str,
    typer.Option(
        "--products",
        help="best: plain, the smallest imf@k within a point of it, and the most accurate of at most half "
        "its size; all; or names such as plain,imf@2.",
        rich_help_panel=EXPORT,
    ),
]
Precisions = Annotated[
    str,
    typer.Option(
        help="fp32,fp16,int8 or some of them, each as an ONNX file and an engine; "
        "or deploy: ONNX files in fp32 and int8, and an engine in fp16.",
        rich_help_panel=EXPORT,
    ),
]
TrtOption = Annotated[
    Trt, typer.Option("--trt", help="Which TensorRT builds engines.", rich_help_panel=EXPORT)
]
BatchRangeOption = Annotated[
    str,
    typer.Option(
        "--batch",
        help="Batches that engines accept: MIN:OPT:MAX, or several ranges such as 1,8:32:64.",
        rich_help_panel=EXPORT,
    ),
]
Capability = Annotated[
    str,
    typer.Option(
        "--compute-capability",
        help="Targets such as 86,89; empty builds for RTX GPUs, Ampere and newer.",
        rich_help_panel=EXPORT,
    ),
]

MaxAccuracyDrop = Annotated[
    float,
    typer.Option(help="Gate: points of accuracy that a file may lose to PyTorch.", rich_help_panel=EXPORT),
]
MinAgreement = Annotated[
    float,
    typer.Option(
        help="Gate: smallest part of the images that keep their class, 0 to 1.", rich_help_panel=EXPORT
    ),
]

Int8CpusOption = Annotated[
    Int8Cpus,
    typer.Option(
        "--int8-cpus",
        help="Processors that INT8 files for ONNX Runtime are for: all, or those with VNNI alone.",
        rich_help_panel=EXPORT,
    ),
]

LogitsOutput = Annotated[
    str,
    typer.Option(
        "--logits",
        help="Output of an ONNX file that holds the logits; empty takes the one that fits the labels.",
    ),
]

BenchSeconds = Annotated[
    float,
    typer.Option(help="Least time that each file's latency is measured for.", rich_help_panel=EXPORT),
]


def _apply_preset(context: typer.Context, name: str) -> str:
    if name:
        from imf_deploy.training.presets import find_preset

        # Click looks here for every option that was not given.
        wanted = find_preset(name).options(teacher=context.info_name == "train-teacher")
        # What --config says is there already, and wins.
        context.default_map = {**wanted, **(context.default_map or {})}
    return name


Preset = Annotated[
    str,
    typer.Option(
        help="Pair and published recipe, such as cifar100/resnet56-resnet20 or imagenet/resnet34-resnet18; "
        "other options win.",
        is_eager=True,
        callback=_apply_preset,
    ),
]

Quick = Annotated[
    bool,
    typer.Option(
        "--quick",
        help="A trial of one epoch (of the teacher's training too) and of plain alone, without --refit, in "
        f"{defaults.QUICK_OUTPUT}; its accuracies are no result.",
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what another run left there.")]
Threads = Annotated[int, typer.Option(help="Threads of each runtime; 0 takes every CPU that may be used.")]
