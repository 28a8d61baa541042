"""The plan of the main job, after all its settings have been checked, and its teacher."""

from dataclasses import dataclass

from imf_deploy.calib.fake_quantize import require_torchao
from imf_deploy.data import DataSet, open_data
from imf_deploy.distillation.distill import check_unlabelled
from imf_deploy.distillation.imf_task import student_trunk
from imf_deploy.distillation.student import student_data, student_spec, student_start
from imf_deploy.errors import UsageError
from imf_deploy.export.choice import FileChoice, choose_precisions
from imf_deploy.export.stage import EnginePlan, choose_engines
from imf_deploy.method.names import PLAIN, blocks_kept
from imf_deploy.method.products import choose_products
from imf_deploy.models import Pretrained, check_student, truncate
from imf_deploy.progress import say
from imf_deploy.run.folder import RunFolder
from imf_deploy.settings import GivenTeacher, MonitoringSettings, QatSettings, RunSettings
from imf_deploy.settings.run import ALL, BEST
from imf_deploy.stripping.confidence import check_validation, last_linear
from imf_deploy.teaching.fine_tuning import (
    OtherClassesError,
    starting_weights,
    teacher_spec,
    training_data,
)
from imf_deploy.teaching.teacher import Teacher, TeacherNeededError, find_teacher, train_teacher
from imf_deploy.teaching.weak_teacher import check_teacher
from imf_deploy.training.loop import check_training
from imf_deploy.training.parts import find_head
from imf_deploy.training.supervised import build_started
from imf_deploy.training.trackers import check_monitoring
from imf_deploy.verification.metrics import check_gate


@dataclass(frozen=True)
class Plan:
    """The plan of a run, after all its settings have been checked.

    Attributes:
        data: The splits.
        names: Products that may be made.
        choice: Files that are made for each product.
        engines: How engines are built; ``None`` builds none.
        remarks: Notes for the user about engines and about the student's weights; some may be empty.
        tuning: How the student is tuned for INT8; ``None`` if it is not.
    """

    data: DataSet
    names: list[str]
    choice: FileChoice
    engines: EnginePlan | None
    remarks: tuple[str, ...]
    tuning: QatSettings | None


def make_plan(config: RunSettings, monitoring: MonitoringSettings) -> Plan:
    """Check everything that can be checked before anything is trained.

    Raises:
        UsageError: a name, a path or a value that cannot be used.
    """
    choice = choose_precisions(config.export.precisions)
    engines, remark = choose_engines(config.export, choice)
    check_monitoring(monitoring)
    tuning = _tuning(config, choice)
    data = open_data(student_data(config.data, config.distill, config.teacher))
    check_unlabelled(config.distill, data)
    check_training(config.distill, data)
    if choice.int8 and not len(data.validation):
        raise UsageError(
            "INT8 is judged on validation images, but there are none",
            "Raise `val_fraction`, or use `precisions` fp32,fp16",
        )
    check_gate(config.int8.gate, data, ["test", "validation"] if choice.int8 else ["test"])
    start = student_start(config.distill, data)
    products = _products(config, data, start)
    return Plan(data, products, choice, engines, (remark, *(start.notes if start else ())), tuning)


def _tuning(config: RunSettings, files: FileChoice) -> QatSettings | None:
    """Return how the student of a run is tuned for INT8; ``None`` if it is not.

    Raises:
        UsageError: there is no INT8 file to tune for.
        ImfDeployError: torchao cannot be used.
    """
    if not config.qat_epochs:
        return None
    if not files.int8:
        raise UsageError(
            "`qat_epochs` tunes weights for INT8, but no INT8 file is requested",
            f"Use `precisions` {','.join(config.export.precisions)},int8, or leave it out",
        )
    require_torchao()
    return QatSettings(config.qat_epochs, device=config.distill.device)


def _products(config: RunSettings, data: DataSet, start: Pretrained | None) -> list[str]:
    """Return the products that may be made; a student that cannot be cut is refused before it is trained."""
    spec = student_spec(config.distill, data)
    student, _ = check_student(spec, start.load if start else None)
    find_head(student, config.distill, spec.num_classes)
    trunk = student_trunk(student, spec, config.distill)
    wanted = (ALL,) if config.products == (BEST,) else config.products
    names = choose_products(wanted, trunk.members)
    if kept := max(blocks_kept(name) for name in names):
        truncate(student, trunk.blocks[:kept])
    if config.calibrate_confidence:
        check_validation(data)
        if PLAIN in names:
            last_linear(student, data.preprocess, spec.name)
    return names


Found = tuple[Teacher, str]
"""A teacher, and the warning about its accuracy; empty if that is fine."""


def given_teacher(config: RunSettings, data: DataSet) -> Found | None:
    """Load the given teacher, or the packaged one if it fits the data; ``None`` if one must be trained.

    Raises:
        UsageError: the accuracy of a given teacher is suspect, and it was not accepted.
        ImfDeployError: a given teacher cannot be used.
    """
    try:
        teacher = find_teacher(config.teacher, data, config.distill.device)
    except TeacherNeededError:
        return None
    except OtherClassesError as error:
        say(f"{error.what}: it is fine-tuned first, in {config.teacher.epochs} epochs")
        return None
    return teacher, check_teacher(teacher, data, config.teacher.accept_weak_teacher)


def teacher_data(config: RunSettings, data: DataSet) -> DataSet:
    """Return the data that a teacher is trained on, after its start has been checked.

    Raises:
        UsageError: there is no such teacher, or no file could reproduce its answers.
        ImfDeployError: the weights that it starts from cannot be used.
    """
    taught = training_data(config.data, config.teacher, data)
    check_training(config.teacher, taught)
    build_started(teacher_spec(config.teacher, taught), starting_weights(config.teacher, taught))
    return taught


def obtain_teacher(
    config: RunSettings,
    data: DataSet,
    folder: RunFolder,
    monitoring: MonitoringSettings,
    given: Found | None,
    taught: DataSet,
) -> Found:
    """Return the given teacher, or train one if none is given or its classes are others.

    Args:
        config: Settings of the run.
        data: Data that the teacher will teach on.
        folder: Folder of the run, which keeps a trained teacher.
        monitoring: What is recorded and reported during the training.
        given: The result of :func:`given_teacher`.
        taught: The result of :func:`teacher_data`, if there is no given teacher.
    """
    if given:
        return given
    trained = train_teacher(taught, config.teacher, folder.teacher, monitoring=monitoring)
    made = GivenTeacher(teacher=config.teacher.teacher, teacher_weights=str(trained.path))
    teacher = find_teacher(made, data, config.distill.device)
    # Its training data is known to fit, and its number of epochs is the user's choice.
    doubt = check_teacher(teacher, data, accept=True)
    notes = [doubt] if doubt else []
    if start := trained.starting_weights:
        tuned = f"The teacher was fine-tuned from {start.source} in {config.teacher.epochs} epochs"
        notes.insert(0, f"{tuned}, and is kept as {folder.teacher}")
    return teacher, ". ".join(notes)
