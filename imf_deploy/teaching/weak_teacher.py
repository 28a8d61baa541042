"""Whether a teacher is good enough to learn from, tested on a few images before the long training."""

from imf_deploy.chance import suspect, why_suspect
from imf_deploy.data import DataSet
from imf_deploy.data.evaluate import accuracy_of
from imf_deploy.errors import UsageError
from imf_deploy.models import device_of
from imf_deploy.records.files import DistilledFile
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.teaching.trial import right_on, sample


def check_teacher(teacher: Teacher, data: DataSet, accept: bool) -> str:
    """Compare a teacher with chance, and without a record also with other obvious ways to use it.

    Args:
        teacher: The teacher, in evaluation mode.
        data: Data that it will teach on.
        accept: Whether to continue in any case.

    Returns:
        The warning about an accepted teacher, without a full stop; empty if there is none.

    Raises:
        UsageError: its accuracy is suspect, and it was not accepted.
    """
    device = device_of(teacher.module)
    images, labels = sample(data)
    if teacher.recorded:
        correct = int(right_on(teacher.module, images, labels, data, device).sum())
        reason, cause = suspect(correct, len(labels), labels.numpy()), None
    else:
        reason, cause = why_suspect(
            lambda batch: teacher.module(batch.to(device)), images, data.preprocess, labels.numpy()
        )
    if not reason:
        return ""
    message = f"the teacher {teacher.spec.name} is suspect: {reason}"
    if accept:
        return message[0].upper() + message[1:]
    hint = (
        f"Use weights that were trained as {data.name} is prepared, with its classes in the same order"
        if cause
        else "Train it for longer, or check that the weights belong to this data"
    )
    raise UsageError(message, f"{hint}, or add `accept_weak_teacher`")


def weak_teacher(teacher: float, student: float) -> str:
    """Return a warning if a student is not less accurate than its teacher, else an empty string.

    Args:
        teacher: Accuracy of the teacher, from 0 to 1.
        student: Accuracy of the student after the distillation.
    """
    if student < teacher:
        return ""
    return (
        f"The teacher ({teacher:.2%}) is no better than the student ({student:.2%}): distillation gains "
        "little from it"
    )


def weak_on_validation(distilled: DistilledFile, teacher: Teacher, data: DataSet) -> str:
    """Return the warning of :func:`weak_teacher`, both measured on the validation images.

    The test split is reserved for deployed files. Without validation images there is no warning.
    """
    reached = distilled.history[-1].get("validation_accuracy")
    own = next((each for each in distilled.refitted if each.head == "plain"), None)
    if own and own.kept:
        reached = own.after
    if reached is None:
        return ""
    device = device_of(teacher.module)
    return weak_teacher(accuracy_of(teacher.module, data.validation, data.preprocess, device), reached)
