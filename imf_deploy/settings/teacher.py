"""Settings of the teacher: which one, how its file is read, and how one is trained if none is given."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from imf_deploy.errors import UsageError
from imf_deploy.settings.base import Count, settings
from imf_deploy.settings.network import NetworkOptions, Strides
from imf_deploy.settings.starts import TEACHER, TEACHER_CHOICE
from imf_deploy.settings.training import TrainingSettings


@settings("Method")
class ReadingSettings:
    """How a given file of weights is read; what neither these nor the file specify is found by trial."""

    weights_key: Annotated[
        str,
        Field(description="Which weights of the teacher's file to use, such as model_ema; empty finds them."),
    ] = ""
    teacher_options: Annotated[
        NetworkOptions,
        Field(
            description="Options of the teacher's network that its weights do not show, such as "
            "transform_input=true."
        ),
    ] = None
    teacher_stem_strides: Annotated[
        Strides,
        Field(
            description="Strides at the given teacher's first reductions, such as 1,2, or own; empty finds "
            "them."
        ),
    ] = None


@settings("Method")
class _Named:
    teacher: Annotated[
        str,
        Field(
            description="Name as for --student, or hf:PATH of transformers; vision transformers work too; "
            "empty chooses by image size."
        ),
    ] = ""


@settings("Method")
class _Weights:
    teacher_weights: Annotated[
        str,
        Field(
            description="A file (safetensors, .pt, .pth, .ckpt, .bin), pretrained, pretrained:TAG or "
            "hf-hub:OWNER/NAME. train-teacher starts from it; empty starts fresh. For other commands it is "
            "the teacher; empty uses the packaged one, or trains one."
        ),
    ] = ""


@settings("Method")
class TeacherWeights(_Weights):
    """The weights of a given teacher."""

    accept_weak_teacher: Annotated[
        bool,
        Field(
            description="Train even if the teacher guesses at chance level, or is more accurate with other "
            "settings."
        ),
    ] = False


@settings()
class GivenTeacher(TeacherWeights, ReadingSettings, _Named):
    """An existing teacher, with given weights or the packaged ones."""

    @model_validator(mode="after")
    def _check_start(self) -> GivenTeacher:
        _with_weights(self)
        return self


@settings(start=TEACHER, epochs=24, batch_size=128, lr=0.1)
class TeacherSettings(TrainingSettings, _Weights, ReadingSettings, _Named):
    """Which teacher is trained, from which weights, and how."""

    @model_validator(mode="after")
    def _check_start(self) -> TeacherSettings:
        _with_weights(self)
        return self


def _with_weights(given: GivenTeacher | TeacherSettings) -> None:
    """Refuse to train a folder's network from fresh weights: who names it means its own."""
    if given.teacher.startswith("hf:") and not given.teacher_weights:
        raise UsageError(
            f"`teacher` {given.teacher} is given without its weights",
            "Add `teacher_weights` pretrained, or a file of weights for it",
        )


@settings("Method", start=TEACHER_CHOICE)
class TeacherChoice(GivenTeacher):
    """A given teacher, and how long one is trained if none is given or its classes are others."""

    teacher_epochs: Annotated[
        Count, Field(description="Epochs of the teacher's training, if it is trained.")
    ] = 24


@settings(start=TEACHER, epochs=24, batch_size=128, lr=0.1)
class RunTeacher(TeacherSettings, GivenTeacher):
    """A given teacher, or how one is trained if none is given or its classes are others."""
