"""Settings of a study: which methods it compares, and with which budget."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from pydantic import Field

from imf_deploy.errors import UsageError
from imf_deploy.limits import LARGEST_NUMBER
from imf_deploy.settings.base import Text, Weight, Whole, Words, settings, words
from imf_deploy.settings.distill import DistillSettings, LossSettings
from imf_deploy.settings.starts import STUDY
from imf_deploy.settings.training import BudgetSettings, TrainingSettings

MOST_TRIES = 4
MethodName = Literal[
    "ce", "kd", "fitnet", "crd", "reviewkd", "dkd", "dist", "mlkd", "kd-ls", "mlkd-ls", "imf"
]
VariantName = Literal[
    "no loss on branches",
    "no loss on prefixes",
    "no feature distance",
    "IFDs without refining units",
    "feature distance alike at all depths",
    "feature distance raw",
    "feature distance L2",
    "feature distance per channel",
    "features stage by stage",
    "one attentive weight a branch",
    "branches averaged",
    "temperature 2",
    "temperature 8",
    "branches warmed up",
    "heads not re-fitted",
    "imf@k of any size",
]


@dataclass(frozen=True)
class Thin:
    """A thinner student, the rival of ``imf@k``.

    Attributes:
        student: Name of the architecture.
        epochs: Passes over the training split, more than those of the full student, so that both trainings
            take equally long; ``None`` uses the same number.
    """

    student: str
    epochs: int | None = None

    def __str__(self) -> str:
        return self.student if self.epochs is None else f"{self.student}:{self.epochs}"


def _read_thin(text: str) -> tuple[Thin, ...]:
    thin = []
    for word in words(text):
        name, _, count = word.rpartition(":")
        with_epochs = bool(name) and count.isascii() and count.isdigit() and len(count) < 19
        thin.append(Thin(name, int(count)) if with_epochs else Thin(word))
        if thin[-1].epochs == 0:
            raise UsageError(f"`thin` {word} has 0 epochs", "Give one or more, such as mobilenetv2x0.5:10")
    return tuple(thin)


@settings("Study")
class GoalSettings:
    """What IMF should reach in a study. Without a goal the page only compares, without a yes or no."""

    goal_gain: Annotated[
        float | None,
        Field(
            ge=-100,
            le=100,
            description="Points of accuracy by which IMF's plain student should exceed KD's student.",
        ),
    ] = None
    goal_best_gain: Annotated[
        float | None,
        Field(
            ge=-100,
            le=100,
            description="Points of accuracy by which IMF's plain student should exceed that of the other "
            "method that is best on validation images.",
        ),
    ] = None
    goal_family_gain: Annotated[
        float | None,
        Field(
            ge=-100,
            le=100,
            description="Points of accuracy by which the largest imf@k should exceed KD's student.",
        ),
    ] = None
    goal_macs: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="Part of the student's MACs with which an imf@k should reach the accuracy of the "
            "student trained by cross-entropy, and exceed that of an equally fast thinner student.",
        ),
    ] = None
    goal_time: Annotated[
        float | None,
        Field(
            gt=0,
            le=LARGEST_NUMBER,
            description="Largest ratio of IMF's processor time for training to KD's.",
        ),
    ] = None


@settings("Study", start=STUDY)
class StudySettings(BudgetSettings, GoalSettings):
    """Methods and students that are compared, and the budget of their trainings."""

    students: Annotated[
        Words, Field(description="Students, separated by commas, with names as for --student elsewhere.")
    ] = (DistillSettings.student,)
    methods: Annotated[
        tuple[MethodName, ...],
        Field(
            description="Some of ce, kd, fitnet, crd, reviewkd, dkd, dist, mlkd, kd-ls, mlkd-ls and imf: see "
            "docs/study.md."
        ),
        Text(words),
    ] = ("ce", "kd", "fitnet", "dkd", "imf")
    seeds: Annotated[
        tuple[Whole, ...],
        Field(description="Seeds of weights, order and augmentation; the same for all methods."),
        Text(words),
    ] = (0, 1, 2, 3, 4)
    tries: Annotated[
        int,
        Field(
            ge=1,
            le=MOST_TRIES,
            description="Settings to try for each method on validation images; 1 tries none.",
        ),
    ] = 3
    tuning_seed: Annotated[Whole, Field(description="Seed of the trials.")] = 1000
    alpha: Annotated[
        Weight, Field(description="Alpha of IMF's first settings, which the others that are tried vary.")
    ] = LossSettings.alpha
    beta: Annotated[
        Weight, Field(description="Beta of IMF's first settings, which the others that are tried vary.")
    ] = LossSettings.beta
    variant: Annotated[
        tuple[VariantName, ...],
        Field(description="Ablations, separated by commas, that IMF is trained with in the whole study."),
        Text(words),
    ] = ()
    ablation_seeds: Annotated[
        Whole,
        Field(description="Number of seeds for the ablations of IMF; 0 runs none."),
    ] = 0
    ablations: Annotated[
        tuple[VariantName, ...],
        Field(description="Ablations to train, separated by commas; empty trains all."),
        Text(words),
    ] = ()
    grid: Annotated[bool, Field(description="Also train IMF with alpha and beta of 10, 20, 30 and 40.")] = (
        False
    )
    thin: Annotated[
        tuple[Thin, ...],
        Field(
            description="Thinner students, trained by KD, to compare imf@k with, and their epochs, such as "
            "mobilenetv2x0.5:10."
        ),
        Text(_read_thin),
    ] = ()
    student_weights: Annotated[
        str,
        Field(
            description="Weights that the student starts from with every method, as for distill; thinner "
            "students start fresh."
        ),
    ] = ""
    student_taps: Annotated[
        Words,
        Field(
            description="Modules of the student that end a block, such as layer2,layer3; empty finds them."
        ),
    ] = ()

    @property
    def training(self) -> TrainingSettings:
        """Settings that all trainings share."""
        shared = {field.name: getattr(self, field.name) for field in fields(BudgetSettings)}
        return TrainingSettings(**shared)

    @property
    def varied(self) -> bool:
        """Whether variants of IMF are trained."""
        return self.grid or self.ablation_seeds > 0
