"""Settings of training: the recipe, and what is kept and reported during it."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from imf_deploy.errors import UsageError
from imf_deploy.limits import LARGEST_NUMBER
from imf_deploy.settings.base import Count, Part, Text, Weight, Whole, Words, settings, words

AugmentName = Literal["shift-flip", "crop-flip", "none"]
Balance = Literal["none", "sampling", "loss"]
Precision = Literal["fp32", "fp16", "bf16"]
OptimizerName = Literal["sgd", "adamw"]

_Fraction = Annotated[float, Field(gt=0, lt=1)]


@settings("Training")
class BudgetSettings:
    """Settings that all trainings share, including those of a study."""

    epochs: Annotated[Count, Field(description="Passes over the training split.")] = 7
    batch_size: Annotated[Count, Field(ge=2, description="Images per training step, over all processes.")] = (
        64
    )
    lr: Annotated[float, Field(gt=0, le=LARGEST_NUMBER, description="Largest learning rate.")] = 0.05
    device: Annotated[str, Field(description="auto, cpu, cuda, cuda:1 …")] = "auto"
    augment: Annotated[
        AugmentName,
        Field(
            description="Augmentation of training images; crop-flip crops photos randomly, as for ImageNet."
        ),
    ] = "shift-flip"
    shift: Annotated[
        Whole | None,
        Field(description="Largest shift of training images in pixels; by default 1/14 of each side."),
    ] = None
    flip: Annotated[bool, Field(description="Mirror half of the training images.")] = True


@settings("Training")
class TrainingSettings(BudgetSettings):
    """Settings that a teacher's training and a distillation share.

    The defaults follow Tian et al. 2019: weight decay, momentum, and drops at epochs 150, 180 and 210 of 240.
    AdamW is that of Loshchilov and Hutter 2019, which decouples the weight decay.
    """

    lr_schedule: Annotated[
        Literal["cosine", "step", "constant"],
        Field(description="How the learning rate falls after the warm-up."),
    ] = "cosine"
    lr_drops: Annotated[
        tuple[_Fraction, ...],
        Field(
            description="Points of the training, from 0 to 1, where the step schedule divides the rate by 10."
        ),
        Text(words),
    ] = (0.625, 0.75, 0.875)
    warmup: Annotated[Part, Field(description="Part of the training during which the rate rises.")] = 0.1
    nesterov: Annotated[bool, Field(description="Use Nesterov's momentum.")] = True
    seed: Annotated[Whole, Field(description="Seed of weights, order and augmentation.")] = 0
    train_precision: Annotated[
        Precision,
        Field(
            description="Precision of training; bf16 is faster on CPUs with AMX and for large networks on "
            "GPUs; fp16 needs a GPU."
        ),
    ] = "fp32"
    optimizer: Annotated[OptimizerName, Field(description="SGD with momentum, or AdamW.")] = "sgd"
    momentum: Annotated[Part, Field(description="Momentum of SGD.")] = 0.9
    weight_decay: Annotated[Weight, Field(description="L2 penalty on weights.")] = 5e-4
    decay_norms: Annotated[bool, Field(description="Apply weight decay to biases and norms too.")] = True
    label_smoothing: Annotated[
        Part, Field(description="Part of each label that is spread over all classes.")
    ] = 0.0
    mixup: Annotated[Weight, Field(description="Parameter of mixup, such as 0.2; 0 switches it off.")] = 0.0
    cutmix: Annotated[Weight, Field(description="Parameter of CutMix, such as 1; 0 switches it off.")] = 0.0
    ema: Annotated[
        Part,
        Field(
            description="Decay of the averaged weights that are kept instead, such as 0.999; 0 averages none."
        ),
    ] = 0.0
    clip_grad: Annotated[Weight, Field(description="Largest norm of the gradient; 0 does not clip.")] = 0.0
    body_lr_factor: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Learning rate of the network's body, as a part of that of its head and of the "
            "branches; below 1 for a body that starts from trained weights.",
        ),
    ] = 1.0
    freeze: Annotated[
        Literal["none", "body", "norms"],
        Field(
            description="What stays as it is: the body with its batch norms, so that only the head and the "
            "branches train; or the statistics and factors of the body's batch norms."
        ),
    ] = "none"
    grad_accumulation: Annotated[
        Count,
        Field(
            description="Number of parts that a batch is computed in, one after the other, to save memory."
        ),
    ] = 1
    balance: Annotated[
        Balance,
        Field(
            description="How rare classes are raised: sampling draws every class equally often, loss weights "
            "the cross-entropy by the inverse frequency of the class."
        ),
    ] = "none"
    keep: Annotated[
        Literal["last", "best"],
        Field(description="The last epoch's weights, or those with the best validation accuracy."),
    ] = "last"
    lr_base_size: Annotated[
        Whole,
        Field(
            description="Batch size that the learning rate is meant for; the rate is scaled linearly to the "
            "actual one (Goyal et al. 2017); 0 does not scale."
        ),
    ] = 0

    @model_validator(mode="after")
    def _check_scaling(self) -> TrainingSettings:
        if self.lr_base_size and self.optimizer != "sgd":
            raise UsageError(
                f"`lr_base_size` scales the rate of SGD, not of {self.optimizer}",
                "Leave it out and give `lr`",
            )
        return self

    @property
    def largest_lr(self) -> float:
        """The rate at the end of the warm-up, scaled to the batch size if ``lr_base_size`` is set."""
        return self.lr * self.batch_size / self.lr_base_size if self.lr_base_size else self.lr

    def learning_rate(self, step: int, steps: int) -> float:
        """Return the rate for ``step`` of ``steps``: a linear warm-up, then ``lr_schedule``.

        ``cosine`` falls to 0 as half a cosine; ``step`` divides the rate by 10 at each of ``lr_drops``.
        """
        rising = max(int(self.warmup * steps), 1)
        if step < rising:
            return self.largest_lr * (step + 1) / rising
        if self.lr_schedule == "step":
            return self.largest_lr * 0.1 ** sum(step >= drop * steps for drop in self.lr_drops)
        if self.lr_schedule == "constant":
            return self.largest_lr
        return self.largest_lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))


@settings("Training")
class MemorySettings:
    """How much of a frozen teacher's outputs is cached.

    It affects only the rounding of a result: a teacher rounds differently on batches of other sizes.
    """

    teacher_outputs_gb: Annotated[
        float,
        Field(ge=0, description="Disk space in GB to cache the teacher's outputs in; 0 caches none."),
    ] = 8.0


@settings("Training")
class MonitoringSettings(MemorySettings):
    """Checkpoints and reports during a training; they are not part of its recipe."""

    checkpoint_minutes: Annotated[
        float,
        Field(ge=0, description="Minutes between checkpoints within an epoch; each epoch ends with one."),
    ] = 10.0
    # Off until it was tested on a GPU.
    cuda_graph: Annotated[bool, Field(description="Run training steps on a GPU as one CUDA graph.")] = False
    tensorboard: Annotated[bool, Field(description="Write losses, rate and accuracy for TensorBoard.")] = (
        False
    )
    log_with: Annotated[
        Words,
        Field(
            description="Experiment trackers of Accelerate that receive losses, rate and accuracy, such as "
            "tensorboard,mlflow,wandb."
        ),
    ] = ()
