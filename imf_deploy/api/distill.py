"""``imf_deploy.distill``."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from imf_deploy.api.data import Data, as_split, as_training, data_set, first_shape
from imf_deploy.api.modules import distilled_in_memory, fitting_preprocess, hash_of
from imf_deploy.data import DataSet, open_data
from imf_deploy.distillation.distill import Distilled, run_distillation
from imf_deploy.distillation.student import started, student_data, student_spec, student_start
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.image_size import short
from imf_deploy.models import ModelSpec, check_behaviour, check_student, recipe_of
from imf_deploy.preprocess import Preprocess
from imf_deploy.progress import say
from imf_deploy.settings import DataSettings, DistillSettings, GivenTeacher, MonitoringSettings
from imf_deploy.teaching.teacher import Teacher, find_teacher
from imf_deploy.training.device import choose_device
from imf_deploy.training.trackers import check_monitoring


def distill(
    student: nn.Module | str,
    teacher: nn.Module | str | Path,
    train: Data,
    validation: Data | None = None,
    settings: DistillSettings | None = None,
    *,
    student_weights: str | Path | None = None,
    preprocess: Preprocess | None = None,
    folder: str | Path | None = None,
    monitoring: MonitoringSettings = MonitoringSettings(),  # noqa: B008, frozen
) -> Distilled:
    """Distil a teacher into a student by IMF (Kim, Lee, Woo, IJCAI 2023; ``docs/method.md`` has our choices).

    Example:
        >>> distilled = imf_deploy.distill(student, teacher, train_loader, val_loader)
        >>> plain, *smaller = imf_deploy.strip(distilled)

    Args:
        student: A module, which is trained in place, or the name of an architecture such as ``mobilenetv2``.
        teacher: A trained module, which is put into evaluation mode and frozen; the path of a teacher's
            weights; or the name of the architecture of the packaged teacher.
        train: Training data. A loader is iterated over once per epoch, with its own batches and augmentation;
            the settings of both are not used.
        validation: Images with labels, on which accuracy is measured after each epoch, and which decide
            whether re-fitted heads are kept. Named data has its own.
        settings: Epochs, learning rate, weights of the loss, design of the branches; by default those of
            ``DistillSettings``, which depend on whether there are ``student_weights``. ``settings.student``
            is not used.
        student_weights: Weights that a named student starts from: a file, ``pretrained``,
            ``pretrained:TAG`` or ``hf-hub:OWNER/NAME``; by default fresh ones. A module has its own. With
            ``settings``, give ``DistillSettings(student_weights=...)`` instead.
        preprocess: How images are prepared as the networks' input, and the names of the classes; it is stored
            in every file that is made. Named data has its own.
        folder: Folder for checkpoints, so that the same call resumes after an interruption; by default
            nothing is written.
        monitoring: What is recorded and reported during the training.

    Returns:
        The trained student and its branches, for :func:`imf_deploy.strip`. They are on the CPU and share
        nothing with ``student``.

    Raises:
        UsageError: an argument does not fit.
        DeviceError: ``settings.device`` does not exist.
        ImfDeployError: the networks do not fit each other or the data, or the loss is not finite.
    """
    check_monitoring(monitoring)
    if settings is None:
        settings = DistillSettings(student_weights=str(student_weights or ""))
    elif student_weights is not None:
        # Settings that were made for a fresh start would destroy what the weights have learned.
        raise UsageError(
            "settings and student_weights are both given, and the defaults of settings depend on the weights",
            "Give the weights to the settings: DistillSettings(student_weights=...)",
        )
    if isinstance(student, str):
        settings = replace(settings, student=student)
    elif settings.student_weights:
        raise UsageError(
            "student_weights is given, but the student is a module", "Load them into it, or name the student"
        )
    data = _data(student, teacher, train, validation, preprocess, settings)
    preprocess = data.preprocess
    teaching = _teacher(teacher, data, settings)
    if teaching.spec.num_classes != preprocess.num_classes:
        raise ImfDeployError(
            f"the teacher has {teaching.spec.num_classes} classes, but the data has {preprocess.num_classes}",
            "Use a teacher of the same classes",
        )
    start = None
    if isinstance(student, str):
        spec = student_spec(settings, data)
        start = student_start(settings, data)
        for note in start.notes if start else ():
            say(note)
        check_student(spec, start.load if start else None)
    else:
        name = type(student).__name__
        fitting_preprocess(student, None, preprocess)
        check_behaviour(student, preprocess.shape, name)
        spec = ModelSpec(name, preprocess.num_classes, preprocess.shape, taps=settings.student_taps)
    checkpoint = Path(folder) / f"{spec.stem}.checkpoint" if folder else None
    if checkpoint:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
    recipe = {
        "student": recipe_of(spec) if isinstance(student, str) else spec.to_dict(),
        "teacher": teaching.sha256 if isinstance(teacher, nn.Module) else teaching.identity,
        "train_images": len(data.train),
        **started(settings, start),
    }
    # The weights of a named student are drawn after the seed is set.
    given = None if isinstance(student, str) else student
    run = run_distillation(
        spec, teaching, data, settings, checkpoint, recipe, monitoring=monitoring, student=given, start=start
    )
    return distilled_in_memory(run.graph, spec, preprocess, settings, run.finish(data))


def _data(
    student: nn.Module | str,
    teacher: nn.Module | str | Path,
    train: Data,
    validation: Data | None,
    preprocess: Preprocess | None,
    settings: DistillSettings,
) -> DataSet:
    """Return training and validation data as one data set."""
    if isinstance(train, str | Path | DataSet):
        named = train if isinstance(train, DataSet) else DataSettings(str(train))
        data = (
            named if isinstance(named, DataSet) else open_data(student_data(named, settings, GivenTeacher()))
        )
        if preprocess not in (None, data.preprocess):
            raise UsageError(f"preprocess is given, but {data.name} has its own", "Leave preprocess out")
    else:
        if preprocess is None:
            module = next((network for network in (teacher, student) if isinstance(network, nn.Module)), None)
            shape = first_shape(train)
            if module is None or shape is None or len(shape) != 3:
                raise UsageError("preprocess is not given", "Use preprocess=Preprocess(...)")
            preprocess = fitting_preprocess(module, short(shape), None)
        data = data_set(preprocess, train=as_training(train, preprocess, settings.batch_size))
    if validation is None:
        return data
    held = as_split(validation, data.preprocess, "validation", "validation")
    return replace(data, validation=held, test=data.test if len(data.test) else held)


def _teacher(teacher: nn.Module | str | Path, data: DataSet, settings: DistillSettings) -> Teacher:
    if not isinstance(teacher, nn.Module):
        weights = isinstance(teacher, Path) or Path(teacher).is_file()
        name = str(teacher)
        given = GivenTeacher(teacher_weights=name) if weights else GivenTeacher(teacher=name)
        return find_teacher(given, data, settings.device)
    fitting_preprocess(teacher, None, data.preprocess)
    spec = ModelSpec(type(teacher).__name__, data.preprocess.num_classes, data.preprocess.shape)
    module = teacher.to(choose_device(settings.device)).eval().requires_grad_(False)
    return Teacher(module, spec, hash_of(module, spec), None)
