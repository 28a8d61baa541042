"""Settings of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

from imf_deploy import defaults
from imf_deploy.data.augment import Augment, AugmentName
from imf_deploy.errors import DeviceError, UsageError
from imf_deploy.limits import LARGEST_NUMBER
from imf_deploy.processes import local_rank, world_size
from imf_deploy.progress import say
from imf_deploy.training.tensorboard import require_tensorboard

Precision = Literal["fp32", "fp16", "bf16"]
Schedule = Literal["cosine", "step", "constant"]
OptimizerName = Literal["sgd", "adamw"]
Keep = Literal["last", "best"]


@dataclass(frozen=True)
class TrainConfig:
    """Settings that the teacher's training and the distillation share.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Images a step, over all processes and all parts of ``grad_accumulation``.
        lr: Largest learning rate.
        weight_decay: L2 penalty on every parameter (Tian et al. 2019: 5e-4); AdamW decouples it.
        warmup: Part of the steps in which the rate rises linearly.
        seed: Seed of weights, order, and augmentation.
        precision: ``bf16`` autocasts forward passes; it pays on GPUs and on CPUs with AMX. ``fp16``
            also scales the loss, and needs a GPU.
        device: ``auto`` takes CUDA where there is one.
        flip: Whether mirrored images keep their class.
        schedule: After the warm-up, ``cosine`` falls to 0 as half a cosine; ``step`` divides the rate
            by 10 at each of ``drops``; ``constant`` leaves it.
        drops: Parts of the training, from 0 to 1; the default is Tian et al. 2019: epochs 150, 180
            and 210 of 240.
        nesterov: Whether the momentum, where there is any, is Nesterov's.
        shift: Pixels by which training images are moved at most; nothing takes a 14th of their side.
        augment: ``shift-flip``, ``crop-flip`` (random crops as for ImageNet) or ``none``.
        optimizer: ``sgd`` with momentum, or ``adamw`` (Loshchilov and Hutter 2019).
        momentum: Of SGD.
        decay_norms: Whether ``weight_decay`` also pulls on biases and on scales of norms.
        label_smoothing: Part of a label's weight that all classes share (Szegedy et al. 2016).
        mixup: Parameter of mixup's beta distribution (Zhang et al. 2018); 0 for none.
        cutmix: The same for CutMix (Yun et al. 2019); with both, one of them is drawn each step.
        ema: Decay of the moving average of the weights that is measured and kept; 0 for none.
        clip_grad: Largest norm of the gradient; 0 for any.
        grad_accumulation: Parts that each process computes its share of a batch in, for less memory.
        keep: Whose weights are the result: the last epoch's, or those of the epoch with the best
            validation accuracy.
    """

    epochs: int = defaults.EPOCHS
    batch_size: int = defaults.BATCH_SIZE
    lr: float = defaults.LR
    weight_decay: float = defaults.WEIGHT_DECAY
    warmup: float = defaults.WARMUP
    seed: int = 0
    precision: Precision = "fp32"
    device: str = "auto"
    flip: bool = True
    schedule: Schedule = "cosine"
    drops: tuple[float, ...] = defaults.LR_DROPS
    nesterov: bool = True
    shift: int | None = None
    augment: AugmentName = "shift-flip"
    optimizer: OptimizerName = "sgd"
    momentum: float = defaults.MOMENTUM
    decay_norms: bool = True
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    clip_grad: float = 0.0
    grad_accumulation: int = 1
    keep: Keep = "last"

    def check(self) -> None:
        """Refuse values that no training can use.

        Raises:
            UsageError: naming the option.
        """
        for option, fine in (
            ("--epochs", self.epochs >= 1),
            ("--batch-size", self.batch_size >= 2),
            ("--lr", 0 < self.lr <= LARGEST_NUMBER),
            ("--seed", 0 <= self.seed <= LARGEST_NUMBER),
            ("--warmup", 0 <= self.warmup < 1),
            ("--lr-drops", all(0 < drop < 1 for drop in self.drops)),
            ("--shift", self.shift is None or self.shift >= 0),
            ("--weight-decay", 0 <= self.weight_decay <= LARGEST_NUMBER),
            ("--momentum", 0 <= self.momentum < 1),
            ("--label-smoothing", 0 <= self.label_smoothing < 1),
            ("--mixup", 0 <= self.mixup <= LARGEST_NUMBER),
            ("--cutmix", 0 <= self.cutmix <= LARGEST_NUMBER),
            ("--ema", 0 <= self.ema < 1),
            ("--clip-grad", 0 <= self.clip_grad <= LARGEST_NUMBER),
            ("--grad-accumulation", self.grad_accumulation >= 1),
        ):
            if not fine:
                raise UsageError(f"{option} is out of range", "See imf-deploy distill --help")
        for option, value, known in (
            ("--train-precision", self.precision, Precision),
            ("--lr-schedule", self.schedule, Schedule),
            ("--optimizer", self.optimizer, OptimizerName),
            ("--keep", self.keep, Keep),
            ("--augment", self.augment, AugmentName),
        ):
            if value not in get_args(known):
                raise UsageError(f"{option} {value} is not known", f"Use {' or '.join(get_args(known))}")

    def scaled(self, base_size: int) -> TrainConfig:
        """Return the settings with the rate multiplied by ``batch_size / base_size``, and say so.

        SGD takes about the same way with larger batches then (Goyal et al. 2017).

        Args:
            base_size: Batch size that ``lr`` is for; 0 leaves the rate.

        Raises:
            UsageError: a negative size, or an optimiser whose steps do not grow with the gradient.
        """
        if not base_size:
            return self
        if base_size < 0:
            raise UsageError(f"--lr-base-size {base_size} is not a batch size", "Give such as 64")
        if self.optimizer != "sgd":
            raise UsageError(
                f"--lr-base-size scales the rate of SGD, not of {self.optimizer}",
                "Leave it out and give --lr",
            )
        lr = self.lr * self.batch_size / base_size
        say(f"Learning rate {lr:g}: {self.lr:g} for {base_size} images, and a batch has {self.batch_size}")
        return replace(self, lr=lr)

    def augmentation(self, size: int) -> Augment:
        """Return how training images of ``size`` pixels a side are changed."""
        return Augment.named(self.augment, size, self.flip, self.shift)

    def learning_rate(self, step: int, steps: int) -> float:
        """Return the rate for ``step`` of ``steps``: linear warm-up, then what ``schedule`` says."""
        rising = max(int(self.warmup * steps), 1)
        if step < rising:
            return self.lr * (step + 1) / rising
        if self.schedule == "step":
            return self.lr * 0.1 ** sum(step >= drop * steps for drop in self.drops)
        if self.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))


@dataclass(frozen=True)
class Monitoring:
    """What is kept and told of a training while it runs; no part of its recipe.

    Of the result it decides the rounding alone, by ``teacher_outputs_gb``.

    Attributes:
        checkpoint_minutes: Time between checkpoints within an epoch; each epoch ends with one anyway.
        teacher_outputs_gb: Disk space in GB that the outputs of a frozen teacher may take where its
            training needs them again; with 0 nothing that it said is kept, in memory either. A teacher
            that sees other batches rounds otherwise.
        cuda_graph: Whether the steps of a training on a GPU run as a CUDA graph, where that is possible.
        tensorboard: Whether losses, rate and accuracy are also written for TensorBoard.
    """

    checkpoint_minutes: float = defaults.CHECKPOINT_MINUTES
    tensorboard: bool = False
    teacher_outputs_gb: float = defaults.TEACHER_OUTPUTS_GB
    cuda_graph: bool = defaults.CUDA_GRAPH

    def check(self) -> None:
        """Refuse what cannot be done.

        Raises:
            UsageError: a negative time or size.
            ImfDeployError: TensorBoard is not installed.
        """
        if not self.checkpoint_minutes >= 0:
            raise UsageError("--checkpoint-minutes is out of range", "Give 0 or more")
        if not 0 <= self.teacher_outputs_gb < math.inf:
            raise UsageError("--teacher-outputs-gb is out of range", "Give 0 or more")
        if self.tensorboard:
            require_tensorboard()


def choose_device(name: str) -> torch.device:
    """Return the device that ``--device`` names; of several processes each has a GPU of its own.

    Raises:
        UsageError: not a device name.
        DeviceError: CUDA was asked for and is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name} is not a device", "Use auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name} is not supported", "Use auto, cpu or cuda")
    if device.type == "cuda" and world_size() > 1:
        if device.index is not None:
            raise UsageError(f"--device {name} names one GPU for several processes", "Use auto or cuda")
        device = torch.device("cuda", local_rank())
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= found:
        what = f"--device {device} is not there, CUDA finds {found}" if found else "no CUDA device was found"
        raise DeviceError(what, "Use --device cpu")
    return device
