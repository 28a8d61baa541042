"""The teacher of the main job: given, packaged, or trained."""

from __future__ import annotations

from imf_deploy.data import DataSet
from imf_deploy.run.config import RunConfig
from imf_deploy.run.folder import RunFolder
from imf_deploy.teaching.teacher import Teacher, TeacherNeededError, find_teacher, train_teacher
from imf_deploy.teaching.weak_teacher import check_teacher
from imf_deploy.training.config import Monitoring

Found = tuple[Teacher, str]
"""A teacher, and the warning about its accuracy; empty where that is fine."""


def given_teacher(config: RunConfig, data: DataSet, accept_weak: bool = False) -> Found | None:
    """Load the given teacher, or the packaged one where it fits the data; nothing where one is needed.

    Raises:
        UsageError: the accuracy of a given teacher is suspect, and nobody accepted it.
    """
    device, wanted = config.distill.train.device, config.teacher
    try:
        teacher = find_teacher(config.teacher_weights, wanted.model, data, device, wanted.reading)
    except TeacherNeededError:
        return None
    return teacher, check_teacher(teacher, data, accept_weak)


def obtain_teacher(
    config: RunConfig, data: DataSet, folder: RunFolder, monitoring: Monitoring, given: Found | None
) -> Found:
    """Return the given teacher, or train one where none is given."""
    if given:
        return given
    trained = train_teacher(data, config.teacher, folder.teacher, monitoring=monitoring)
    teacher = find_teacher(str(trained.path), config.teacher.model, data, config.distill.train.device)
    # What it was trained with is known to fit, and how long it is trained is the user's choice.
    return teacher, check_teacher(teacher, data, accept=True)
