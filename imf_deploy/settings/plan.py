"""Settings of a plan: which students are priced before one of them is trained."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from imf_deploy.errors import UsageError
from imf_deploy.image_size import Size, check_image_size, read_size, size_text
from imf_deploy.limits import MOST_CLASSES
from imf_deploy.settings.base import Text, Whole, Words, settings, words
from imf_deploy.settings.data import SMALLEST_SIDE
from imf_deploy.settings.distill import DistillSettings
from imf_deploy.settings.network import Strides

MOST_CANDIDATES = 64
"""Most students times image sizes of a plan."""


def _read_sizes(text: str) -> tuple[Size, ...]:
    return tuple(map(read_size, words(text)))


def _write_sizes(sizes: tuple[Size, ...]) -> str:
    return ",".join(map(size_text, sizes))


def _write_widths(widths: tuple[float, ...]) -> str:
    return ",".join(f"{width:g}" for width in widths)


@settings("Plan")
class PlanSettings:
    """The candidates: every student, in every width, for every image size."""

    student: Annotated[
        Words,
        Field(min_length=1, description="Students, separated by commas, with names as for distill."),
    ] = (DistillSettings.student,)
    widths: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...],
        Field(
            description="Widths of each student, such as 0.35,0.5,1; only MobileNetV2 and the CIFAR ResNets "
            "have them. Empty keeps the students as they are named."
        ),
        Text(words, _write_widths),
    ] = ()
    image_sizes: Annotated[
        tuple[Size, ...],
        Field(
            description="Sizes of the network's input, such as 96,128 or 96x160,128; empty uses "
            "--image-size, or that of the images."
        ),
        Text(_read_sizes, _write_sizes),
    ] = ()
    classes: Annotated[
        int,
        Field(
            ge=0,
            le=MOST_CLASSES,
            description="Number of classes, so that no data is opened; 0 uses those of --data.",
        ),
    ] = 0
    teacher: Annotated[
        str,
        Field(
            description="Architecture of the teacher, whose features decide how the branches are built; "
            "empty uses the one that distill-and-export would train."
        ),
    ] = ""
    stem_strides: Annotated[
        Strides,
        Field(
            description="Strides at the first reductions, such as 1,1, or own; empty chooses by image size."
        ),
    ] = None
    threads: Annotated[Whole, Field(description="Threads of ONNX Runtime; 0 uses every available CPU.")] = 0
    plan_seconds: Annotated[
        float, Field(ge=0, description="Minimum measuring time of each file's latency in seconds.")
    ] = 0.3

    @model_validator(mode="after")
    def _check(self) -> PlanSettings:
        for size in self.image_sizes:
            check_image_size(size, SMALLEST_SIDE)
        count = len(self.student) * max(len(self.widths), 1) * max(len(self.image_sizes), 1)
        if count > MOST_CANDIDATES:
            raise UsageError(
                f"`student`, `widths` and `image_sizes` make {count} candidates, but a plan has at most "
                f"{MOST_CANDIDATES}",
                "Give fewer of them",
            )
        return self
