"""Settings of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from imf_deploy import defaults
from imf_deploy.data.batches import AugmentName
from imf_deploy.errors import DeviceError, UsageError

Precision = Literal["fp32", "bf16"]
Schedule = Literal["cosine", "step"]


@dataclass(frozen=True)
class TrainConfig:
    """Settings that the teacher's training and the distillation share.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Images a step.
        lr: Largest learning rate of SGD with momentum 0.9.
        weight_decay: L2 penalty on every parameter (Tian et al. 2019: 5e-4).
        warmup: Part of the steps in which the rate rises linearly.
        seed: Seed of weights, order, and augmentation.
        precision: ``bf16`` autocasts forward passes; it pays on GPUs and on CPUs with AMX.
        device: ``auto`` takes CUDA where there is one.
        flip: Whether mirrored pictures keep their class.
        schedule: After the warm-up, ``cosine`` falls to 0 as half a cosine; ``step`` divides the rate
            by 10 at each of ``drops``.
        drops: Parts of the training, from 0 to 1; the default is Tian et al. 2019: epochs 150, 180
            and 210 of 240.
        nesterov: Whether the momentum is Nesterov's.
        shift: Pixels by which training images are moved at most; nothing takes a 14th of their side.
        augment: ``shift-flip``, ``crop-flip`` (random crops as for ImageNet) or ``none``.
    """

    epochs: int = defaults.EPOCHS
    batch_size: int = defaults.BATCH_SIZE
    lr: float = defaults.LR
    weight_decay: float = 5e-4
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

    def check(self) -> None:
        """Refuse values that no training can use.

        Raises:
            UsageError: naming the option.
        """
        for option, fine in (
            ("--epochs", self.epochs >= 1),
            ("--batch-size", self.batch_size >= 2),
            ("--lr", self.lr > 0 and math.isfinite(self.lr)),
            ("--seed", self.seed >= 0),
            ("--warmup", 0 <= self.warmup < 1),
            ("--lr-drops", all(0 < drop < 1 for drop in self.drops)),
            ("--shift", self.shift is None or self.shift >= 0),
        ):
            if not fine:
                raise UsageError(f"{option} is out of range", "See imf-deploy distill --help")
        if self.precision not in ("fp32", "bf16"):
            raise UsageError(f"--train-precision {self.precision} is not known", "Use fp32 or bf16")
        if self.augment not in get_args(AugmentName):
            raise UsageError(
                f"--augment {self.augment} is not known", f"Use {', '.join(get_args(AugmentName))}"
            )
        if self.schedule not in ("cosine", "step"):
            raise UsageError(f"--lr-schedule {self.schedule} is not known", "Use cosine or step")

    def learning_rate(self, step: int, steps: int) -> float:
        """Return the rate for ``step`` of ``steps``: linear warm-up, then half a cosine or steps."""
        rising = max(int(self.warmup * steps), 1)
        if step < rising:
            return self.lr * (step + 1) / rising
        if self.schedule == "step":
            return self.lr * 0.1 ** sum(step >= drop * steps for drop in self.drops)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))


def choose_device(name: str) -> torch.device:
    """Return the device that ``--device`` names.

    Raises:
        UsageError: not a device name.
        DeviceError: CUDA was asked for and is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name} is not a device", "Use auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name} is not supported", "Use auto, cpu or cuda")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= found:
        what = f"--device {name} is not there, CUDA finds {found}" if found else "no CUDA device was found"
        raise DeviceError(what, "Use --device cpu")
    return device
