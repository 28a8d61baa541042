"""Teachers that start from given weights: which network they are, and whether they have to be trained."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from imf_deploy.artifact import load_artifact
from imf_deploy.data import DataSet, open_data
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.image_size import Shape
from imf_deploy.models import SMALL_IMAGE, ModelSpec, Pretrained, prepared_for, read_pretrained
from imf_deploy.records.files import sidecar_path
from imf_deploy.settings import DataSettings, GivenTeacher, ReadingSettings, TeacherSettings
from imf_deploy.settings.base import from_record, option_values

LARGE_TEACHER = "resnet50"
"""The default architecture of a teacher for images that are not small (ours)."""

_NOT_TAUGHT = ("mean", "std", "interpolation", "crop-fraction", "unlabelled")
"""Options of the data that the command leaves out: they follow the weights, or it would refuse them."""


def default_teacher(shape: Shape) -> str:
    """Return the default architecture of a teacher for images of a shape (ours)."""
    return "resnet14x2" if min(shape[1:]) < SMALL_IMAGE else LARGE_TEACHER


def check_reading(given: TeacherSettings | GivenTeacher) -> None:
    """Refuse settings for reading weights if no weights are given.

    Raises:
        UsageError: naming the settings.
    """
    usual = vars(ReadingSettings())
    if not given.teacher_weights and any(getattr(given, name) != value for name, value in usual.items()):
        raise UsageError(
            "`weights_key`, `teacher_options` and `teacher_stem_strides` are for a given teacher",
            "Add `teacher_weights` FILE",
        )


def teacher_spec(config: TeacherSettings | GivenTeacher, data: DataSet) -> ModelSpec:
    """Return the architecture of a teacher that is trained on a data set, from fresh or from given weights.

    Raises:
        UsageError: there is no such model, or the weights' record names a factory that is not ``teacher``.
        ImfDeployError: the record of the weights is damaged.
    """
    classes, shape = data.preprocess.num_classes, data.preprocess.shape
    name, known = config.teacher or default_teacher(shape), None
    path = Path(config.teacher_weights)
    if config.teacher_weights and sidecar_path(path).is_file():
        known = ModelSpec.from_dict(load_artifact(path).model, (config.teacher,), "`teacher`")
        name = config.teacher or known.name
    spec = ModelSpec.for_images(name, classes, shape, config.teacher_stem_strides)
    if known and config.teacher_stem_strides is None and known.shape == shape:
        spec = replace(spec, stem_strides=known.stem_strides)
    options = config.teacher_options
    if options is None:
        options = known.settings if known else ()
    return replace(spec, settings=options)


def training_data(config: DataSettings, given: TeacherSettings | GivenTeacher, data: DataSet) -> DataSet:
    """Return a data set with its images prepared as the weights expect that a teacher starts from.

    Args:
        config: Settings of the data.
        given: The teacher.
        data: The data as a student sees it; returned if the weights expect nothing else.
    """
    if not given.teacher_weights:
        return data
    own = prepared_for(config, given.teacher_weights, given.teacher or LARGE_TEACHER)
    if own.starting in (None, data.preprocess.preparation):
        return data
    prepared = open_data(own)
    return data if prepared.preprocess == data.preprocess else prepared


def starting_weights(config: TeacherSettings | GivenTeacher, data: DataSet) -> Pretrained | None:
    """Read the weights that a teacher starts from; ``None`` if it starts fresh.

    Raises:
        UsageError: there are no such weights.
        ImfDeployError: they belong to another network, are damaged, or cannot be downloaded.
    """
    if not config.teacher_weights:
        return None
    spec = teacher_spec(config, data)
    return read_pretrained(config.teacher_weights, spec, data.preprocess.labels, config.weights_key)


class OtherClassesError(ImfDeployError):
    """A given teacher was trained for other classes than those of the data."""


def refusal(given: GivenTeacher, data: DataSet) -> OtherClassesError | None:
    """Return why a given teacher cannot teach on a data set, if that is because of its classes.

    The hint is the command that fine-tunes it. ``None`` if the weights cannot be used for other reasons.
    """
    try:
        start = starting_weights(given, data)
    except ImfDeployError:
        return None
    if start is None or not start.new:
        return None
    origin, classes = start.origin, data.preprocess.num_classes
    known = f"{origin.classes} classes" if origin.classes != classes else "other classes"
    what = (
        f"{origin.source} was trained for {known if origin.classes else 'no classes'}, but {data.name} has "
        f"{classes} classes"
    )
    if not data.config:
        return OtherClassesError(
            what, "Fine-tune it for these classes, for example with imf-deploy train-teacher"
        )
    made = "teacher.safetensors"
    command = ["imf-deploy", "train-teacher"]
    for name, value in option_values(from_record(DataSettings, data.config)).items():
        if value != option_values(DataSettings()).get(name) and name not in _NOT_TAUGHT:
            command += [f"--{name}", str(value)]
    for name in ("teacher", "weights_key", "teacher_options", "teacher_stem_strides"):
        if value := option_values(given).get(name.replace("_", "-")):
            command += [f"--{name.replace('_', '-')}", str(value)]
    command += ["--teacher-weights", given.teacher_weights, "--output", made]
    return OtherClassesError(
        what, f"Fine-tune it first: {shlex.join(command)}; then use `teacher_weights` {made}"
    )
