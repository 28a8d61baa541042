"""Settings of a distillation by IMF, and of tuning for INT8 afterwards."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from imf_deploy.errors import UsageError
from imf_deploy.limits import LARGEST_NUMBER
from imf_deploy.settings.base import INTERNAL, Part, Weight, Whole, Words, settings
from imf_deploy.settings.network import Strides
from imf_deploy.settings.starts import STUDENT
from imf_deploy.settings.training import TrainingSettings

MOST_REFINING = 100
Distance = Literal["power", "raw", "l2", "channel"]
Attention = Literal["class", "branch", "mean"]


@settings("Method")
class LossSettings:
    """The two weights of the loss (the paper's Eq. 5), the temperature, and variants of the terms (ours).

    The usual factor of the squared temperature (Hinton et al. 2015) is left out (ours), so that the
    temperature does not change the weight of ``beta``.
    """

    alpha: Annotated[Weight, Field(description="Weight of the feature distance.")] = 30.0
    beta: Annotated[Weight, Field(description="Weight of the divergence between softened logits.")] = 20.0
    temperature: Annotated[
        float,
        Field(
            gt=0, le=LARGEST_NUMBER, description="Temperature that softens the logits of student and teacher."
        ),
    ] = 4.0
    branches: Annotated[
        Weight,
        Field(description="Weight of the branches' own divergence, beside the student's own head at 1."),
        INTERNAL,
    ] = 1.0
    prefixes: Annotated[
        Weight,
        Field(description="Weight of the divergence of the attentive logits of every prefix."),
        INTERNAL,
    ] = 1.0
    distance: Annotated[
        Distance,
        Field(description="How the feature distance is made independent of the teacher's scale, if at all."),
        INTERNAL,
    ] = "power"
    depth: Annotated[
        float,
        Field(ge=0, le=8, description="How much less the features of early branches count, as a power."),
        INTERNAL,
    ] = 2.0


@settings()
class BranchSettings:
    """How the branches are built (ours, except for the paper's weights per class)."""

    attention: Annotated[
        Attention,
        Field(
            description="What the attentive logit learns: a weight per class and branch, per branch, or none."
        ),
        INTERNAL,
    ] = "class"
    match: Annotated[
        Literal["last", "stages"],
        Field(
            description="Which of the teacher's maps branches learn: the last, or each the one at its depth."
        ),
        INTERNAL,
    ] = "last"
    refining: Annotated[
        int,
        Field(
            ge=0,
            le=MOST_REFINING,
            description="Most units that an IFD has beyond those that reach the teacher's resolution.",
        ),
        INTERNAL,
    ] = 2
    budget: Annotated[
        float,
        Field(
            ge=0,
            le=LARGEST_NUMBER,
            description="Largest size of an imf@k as a part of the student's, in multiply-accumulates and in "
            "parameters; 0 does not limit it.",
        ),
        INTERNAL,
    ] = 1.0


@settings("Method", start=STUDENT)
class DistillSettings(TrainingSettings, LossSettings, BranchSettings):
    """Which student is trained, and how it is distilled."""

    student: Annotated[
        str,
        Field(
            description="mobilenetv2, resnet18 …, torchvision:NAME, timm:NAME, cifar:NAME or "
            "package.module:factory."
        ),
    ] = "mobilenetv2"
    student_weights: Annotated[
        str,
        Field(
            description="Weights that the student starts from: a file, pretrained, pretrained:TAG, or "
            "hf-hub:OWNER/NAME; empty starts fresh."
        ),
    ] = ""
    stem_strides: Annotated[
        Strides,
        Field(
            description="Strides at the first reductions, such as 1,1, or own; empty chooses by image size."
        ),
    ] = None
    student_taps: Annotated[
        Words,
        Field(
            description="Modules of the student that end a block, such as layer2,layer3; empty finds them."
        ),
    ] = ()
    teacher_tap: Annotated[
        str,
        Field(
            description="Module of the teacher whose output the branches learn; empty uses its last block."
        ),
    ] = ""
    branch_warmup: Annotated[
        Part,
        Field(
            description="Part of the training during which the weight of the branches' terms rises (ours)."
        ),
        INTERNAL,
    ] = 0.0
    refit: Annotated[
        bool, Field(description="Re-fit the linear heads at the end, on the features of the final weights.")
    ] = True

    @model_validator(mode="after")
    def _check_tap(self) -> DistillSettings:
        if self.teacher_tap and self.match != "last":
            raise UsageError("`teacher_tap` names one map, and the branches learn several", "Leave it out")
        return self


@settings()
class QatSettings:
    """Length and learning rate of quantisation-aware training.

    Losses, optimiser, batch size, seed, shifts, crops and flips are those of the distillation. The schedule
    is not: the rate rises for a tenth of the steps and falls as a cosine to 0, so that ranges settle. Body
    and head have the same rate, because nothing is new. Mixup, CutMix and the moving average of weights are
    off, and the last epoch's weights are kept.
    """

    epochs: Annotated[int, Field(ge=1, le=LARGEST_NUMBER, description="Passes over the training split.")] = 1
    lr_factor: Annotated[
        float,
        Field(gt=0, description="Largest learning rate, as a part of the distillation's."),
    ] = 0.02
    device: Annotated[str, Field(description="auto, cpu, cuda, cuda:1 …")] = "auto"


@settings("Training")
class TuningSettings:
    """Whether the main job tunes the student for INT8."""

    qat_epochs: Annotated[
        Whole,
        Field(
            description="Epochs of quantisation-aware training after the distillation; for INT8 that "
            "misses its gate."
        ),
    ] = 0
