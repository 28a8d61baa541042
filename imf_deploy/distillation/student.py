"""The student before a distillation: its architecture, and the weights that it starts from."""

from dataclasses import asdict, replace
from typing import Any

from imf_deploy.data import DataSet
from imf_deploy.image_size import pixels_text
from imf_deploy.models import ModelSpec, Pretrained, prepared_for, read_pretrained
from imf_deploy.models.published import is_published
from imf_deploy.settings import DataSettings, DistillSettings, GivenTeacher
from imf_deploy.teaching.fine_tuning import LARGE_TEACHER


def student_spec(config: DistillSettings, data: DataSet) -> ModelSpec:
    """Return the student's architecture for a data set.

    Raises:
        UsageError: there is no such student.
    """
    preprocess = data.preprocess
    return ModelSpec.for_images(
        config.student, preprocess.num_classes, preprocess.shape, config.stem_strides, config.student_taps
    )


def student_data(data: DataSettings, config: DistillSettings, teacher: GivenTeacher) -> DataSettings:
    """Return settings of data whose images are prepared as the weights expect that the student starts from.

    A fresh student sees what a teacher with published weights sees.

    Raises:
        UsageError: there is no such student, or there are no such weights.
        ImfDeployError: the record of the weights is damaged.
    """
    if config.student_weights:
        return prepared_for(data, config.student_weights, config.student)
    if is_published(teacher.teacher_weights):
        return prepared_for(data, teacher.teacher_weights, teacher.teacher or LARGE_TEACHER)
    return data


def student_start(config: DistillSettings, data: DataSet) -> Pretrained | None:
    """Return the weights that the student starts from; ``None`` if it starts fresh.

    Raises:
        UsageError: there is no such student, or there are no such weights.
        ImfDeployError: the weights cannot be downloaded or do not fit.
    """
    if not config.student_weights:
        return None
    spec = student_spec(config, data)
    start = read_pretrained(config.student_weights, spec, data.preprocess.labels)
    notes = [*start.notes]
    if start.preparation is None:
        notes.append(
            f"{start.origin.source} does not state how its images were prepared: `mean`, `std`, "
            "`interpolation` and `crop_fraction` do, if the defaults are wrong"
        )
    if spec.stem_strides:
        notes.append(_strides_note(spec, start))
    return replace(start, notes=tuple(notes))


def _strides_note(spec: ModelSpec, start: Pretrained) -> str:
    strides = ",".join(map(str, spec.stem_strides))
    return (
        f"For images of {pixels_text(spec.image_size)} the student has the strides {strides} at its first "
        f"reductions, but {start.origin.source} was trained with others: its filters see larger maps than "
        "they have learned, and help less than on images of 64 pixels or more"
    )


def started(config: DistillSettings, start: Pretrained | None) -> dict[str, Any]:
    """Return the settings of a distillation for its recipe, with the hash of the weights that it starts from.

    Where the weights come from does not decide the result.
    """
    own = asdict(config)
    del own["student_weights"]
    return {"config": own} | ({"student_weights": start.identity} if start else {})
