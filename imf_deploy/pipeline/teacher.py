"""The teacher of the main job: given, packaged, or trained."""

from imf_deploy.data import DataSet
from imf_deploy.run.folder import RunFolder
from imf_deploy.settings import GivenTeacher, MonitoringSettings, RunSettings
from imf_deploy.teaching.teacher import Teacher, TeacherNeededError, find_teacher, train_teacher
from imf_deploy.teaching.weak_teacher import check_teacher

Found = tuple[Teacher, str]
"""A teacher, and the warning about its accuracy; empty if that is fine."""


def given_teacher(config: RunSettings, data: DataSet) -> Found | None:
    """Load the given teacher, or the packaged one if it fits the data; ``None`` if one must be trained.

    Raises:
        UsageError: the accuracy of a given teacher is suspect, and it was not accepted.
    """
    try:
        teacher = find_teacher(config.teacher, data, config.distill.device)
    except TeacherNeededError:
        return None
    return teacher, check_teacher(teacher, data, config.teacher.accept_weak_teacher)


def obtain_teacher(
    config: RunSettings, data: DataSet, folder: RunFolder, monitoring: MonitoringSettings, given: Found | None
) -> Found:
    """Return the given teacher, or train one if none is given."""
    if given:
        return given
    trained = train_teacher(data, config.teacher, folder.teacher, monitoring=monitoring)
    made = GivenTeacher(teacher=config.teacher.teacher, teacher_weights=str(trained.path))
    teacher = find_teacher(made, data, config.distill.device)
    # Its training data is known to fit, and its number of epochs is the user's choice.
    return teacher, check_teacher(teacher, data, accept=True)
