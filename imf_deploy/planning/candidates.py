"""The candidates of a plan: students at image sizes, checked before anything is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from imf_deploy.data import open_data
from imf_deploy.distillation.imf_task import student_trunk
from imf_deploy.errors import UsageError
from imf_deploy.image_size import Shape, sides
from imf_deploy.models import ModelSpec, build_model, check_student, find_blocks, resolve
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.making import Block
from imf_deploy.settings import BranchSettings, DataSettings, PlanSettings
from imf_deploy.teaching.fine_tuning import default_teacher


@dataclass(frozen=True)
class Candidate:
    """A student that could be trained.

    Attributes:
        spec: Its architecture.
        teacher: Name of the teacher's architecture.
        features: The teacher's blocks, which decide how the branches are built.
        preprocess: Size and classes of its input.
        products: Number of its products, ``plain`` included.
    """

    spec: ModelSpec
    teacher: str
    features: list[Block]
    preprocess: Preprocess
    products: int


def find_candidates(config: PlanSettings, data: DataSettings) -> list[Candidate]:
    """Return the candidates of a plan, by image size and then in the order of the students.

    Data is opened only for the number of classes, and for the image size if none is given.

    Raises:
        UsageError: there is no such student or teacher, a student has no such width, or the classes or the
            image size are not known.
        ImfDeployError: a student does not run on images of a size, or has no blocks.
    """
    names = list(dict.fromkeys(_students(config)))
    candidates = []
    for preprocess in _inputs(config, data):
        shape, classes = preprocess.shape, preprocess.num_classes
        teacher = config.teacher or default_teacher(shape)
        features = _features(ModelSpec.for_images(teacher, classes, shape))
        for name in names:
            spec = ModelSpec.for_images(name, classes, shape, config.stem_strides)
            student, _ = check_student(spec)
            members = student_trunk(student, spec, BranchSettings()).members
            candidates.append(Candidate(spec, teacher, features, preprocess, 1 + members))
    return candidates


def _students(config: PlanSettings) -> Iterator[str]:
    for name in config.student:
        whole = resolve(name)
        if not config.widths:
            yield name
        for width in config.widths:
            scaled = f"{name}x{width:g}"
            try:
                resolve(scaled)
            except UsageError as error:
                known = whole.library in ("torchvision", "cifar") and "width" in error.what
                raise UsageError(
                    f"`student` {name} has no width {width:g}" + (f" ({error.hint})" if known else ""),
                    "Leave `widths` out for it; MobileNetV2 and the CIFAR ResNets have widths",
                ) from error
            yield name if width == 1 else scaled


def _inputs(config: PlanSettings, data: DataSettings) -> list[Preprocess]:
    """Return the inputs of the candidates, one for each image size."""
    if config.image_sizes and data.image_size:
        raise UsageError("both `image_size` and `image_sizes` are given", "Leave one of them out")
    sizes = list(dict.fromkeys(config.image_sizes)) or [size for size in [data.image_size] if size]
    if config.classes:
        if not sizes:
            raise UsageError(
                "`classes` is given, so no data is opened, and the image size is not known",
                "Add `image_sizes`, such as 96,128",
            )
        labels, channels = tuple(map(str, range(config.classes))), data.channels
    else:
        opened = open_data(replace(data, image_size=sizes[0]) if sizes else data).preprocess
        labels, channels = opened.labels, opened.channels
        sizes = sizes or [opened.size]
    shapes: list[Shape] = [(channels, *sides(size)) for size in sizes]
    return [Preprocess.of_tensors(shape, labels) for shape in shapes]


def _features(spec: ModelSpec) -> list[Block]:
    teacher: nn.Module = build_model(spec)
    return find_blocks(teacher, spec.image_size)
