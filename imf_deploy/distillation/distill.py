"""Stage: distil a teacher into a student by IMF."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imf_deploy.artifact import claim
from imf_deploy.data import DataSet
from imf_deploy.data.unlabelled import identity_of, with_unlabelled
from imf_deploy.distillation.imf_task import ImfTask, attach_branches, imf_task
from imf_deploy.distillation.refit import FLOATS, first_refitted, refit_distilled
from imf_deploy.distillation.student import started, student_spec, student_start
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import fingerprint, finite, sha256_file
from imf_deploy.method.branches import TrainingGraph
from imf_deploy.method.budget import BranchPlan
from imf_deploy.method.names import imf
from imf_deploy.models import (
    Block,
    ModelSpec,
    Pretrained,
    build_model,
    check_student,
    find_blocks,
    load_weights,
    read_weights,
    recipe_of,
    save_weights,
    student_blocks,
    tensor_hashes,
)
from imf_deploy.progress import say
from imf_deploy.records.files import DistilledFile
from imf_deploy.settings import BranchSettings, DistillSettings, MonitoringSettings
from imf_deploy.settings.base import from_record
from imf_deploy.stages import stage
from imf_deploy.teacher_memory.recent_logits import RecentLogits
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training.checkpoint import History, check_finite
from imf_deploy.training.distributed import on_first
from imf_deploy.training.loop import fit
from imf_deploy.training.optimizer import scaled_rate
from imf_deploy.training.trackers import check_monitoring


def check_unlabelled(config: DistillSettings, data: DataSet) -> None:
    """Refuse images without labels if no term of the loss uses them.

    Raises:
        UsageError: the weights of all such terms are 0.
    """
    if data.unlabelled is not None and not config.alpha and not config.beta:
        raise UsageError(
            "`unlabelled` images are only used by the terms of `alpha` and `beta`, which are both 0",
            "Raise one of them, or leave out `unlabelled`",
        )


@dataclass(frozen=True)
class Distilled:
    """A trained student with its branches, as read by the strip stage.

    Attributes:
        artifact: The record of the file.
        spec: The student's architecture.
        graph: Student and branches with their trained weights, in evaluation mode.
        blocks: The student's blocks.
        teacher_features: The teacher's feature map whose shape each IFD outputs.
        design: Design of the branches.
    """

    artifact: DistilledFile
    spec: ModelSpec
    graph: TrainingGraph
    blocks: list[Block]
    teacher_features: list[Block]
    design: BranchSettings


def distill(
    data: DataSet,
    teacher: Teacher,
    config: DistillSettings,
    path: Path,
    overwrite: bool = False,
    monitoring: MonitoringSettings = MonitoringSettings(),  # noqa: B008, frozen
    checked: bool = False,
) -> DistilledFile:
    """Distil a teacher into a student and write both the student and its branches.

    The teacher stays in evaluation mode without gradients. A file that the same recipe already made is
    returned unchanged; a training is resumed from a checkpoint next to it, which is removed at the end. If
    there are several processes, all call this, and the first one writes.

    Args:
        data: Training and validation splits; the test split is not used.
        teacher: Teacher from :func:`imf_deploy.teaching.teacher.load_teacher`.
        config: Settings.
        path: Output file; tensors are named ``student.*`` and ``imf.*``.
        overwrite: Whether a file that another recipe made may be replaced.
        monitoring: What is recorded and reported during the training.
        checked: Whether :func:`imf_deploy.models.check_student` has already accepted the student, and the
            notes about the weights that it starts from have been printed.

    Returns:
        The record of the file.

    Raises:
        UsageError: the student is unknown, or a setting is out of range.
        ImfDeployError: the teacher has other classes, the loss is not finite, or a file cannot be read or
            written.
    """
    check_monitoring(monitoring)
    config = scaled_rate(config)
    classes = data.preprocess.num_classes
    if teacher.spec.num_classes != classes:
        raise ImfDeployError(
            f"the teacher has {teacher.spec.num_classes} classes, but the data has {classes}",
            "Train a teacher for this data: imf-deploy train-teacher",
        )
    check_unlabelled(config, data)
    spec = student_spec(config, data)
    start = student_start(config, data)
    settings = {
        "kind": "distilled",
        "student": recipe_of(spec),
        "data": data.fingerprint,
        "teacher": teacher.identity,
        **started(config, start),
    }
    if data.unlabelled is not None:
        settings["unlabelled"] = identity_of(data.unlabelled)
    recipe = fingerprint(settings)
    checkpoint = path.with_suffix(".checkpoint")
    if made := on_first(lambda: claim(DistilledFile, path, recipe, overwrite, checkpoint)):
        return made
    if not checked:
        for note in start.notes if start else ():
            say(note)
        check_student(spec, start.load if start else None)
    run = run_distillation(
        spec, teacher, data, config, checkpoint, settings, overwrite, monitoring, start=start
    )

    def finish() -> DistilledFile:
        record = DistilledFile(
            path=path,
            sha256="",
            parent=teacher.sha256,
            recipe=recipe,
            model=spec.to_dict(),
            preprocess=data.preprocess,
            **run.finish(data),
        )
        return save_distilled(record, run.graph, checkpoint)

    return on_first(finish)


@dataclass(frozen=True)
class DistillationRun:
    """The result of training a distillation.

    Attributes:
        teacher: Teacher that the student learned from.
        config: Settings.
        task: Task, which has the teacher.
        graph: Student and branches.
        blocks: The student's blocks.
        features: The teacher's block that each branch learned.
        history: One record per epoch.
        start: Weights that the student started from, if any.
    """

    teacher: Teacher
    config: DistillSettings
    task: ImfTask
    graph: TrainingGraph
    blocks: list[Block]
    features: list[Block]
    history: History
    start: Pretrained | None = None

    def finish(self, data: DataSet) -> dict[str, Any]:
        """Re-fit the heads if the settings require it, and return the fields of the record."""
        heads = []
        if self.config.refit:
            with stage("refit"):
                heads = refit_distilled(self.graph, self.task.teach, data, self.config, self.config)
        tensors = tensor_hashes(self.teacher.module.parameters())
        if self.start:
            # What the student started with is its own, even if the teacher has it as well.
            own = set(tensor_hashes(self.start.tensors.values()))
            tensors = [each for each in tensors if each not in own]
        return {
            "history": self.history,
            "refitted": heads,
            "blocks": self.blocks,
            "teacher_features": self.features,
            "ifds": self.graph.imf.shapes,
            "members": self.graph.imf.members,
            "teacher": self.teacher.spec.to_dict(),
            "teacher_weights": self.teacher.origin,
            "teacher_key": self.teacher.key,
            "teacher_accuracy": self.teacher.accuracy,
            "teacher_tensors": tensors,
            "starting_weights": self.start.origin if self.start else None,
            "data": data.name,
            "data_config": data.config,
            "unlabelled": 0 if data.unlabelled is None else len(data.unlabelled),
            "config": finite(asdict(self.config)),
        }


def run_distillation(
    spec: ModelSpec,
    teacher: Teacher,
    data: DataSet,
    config: DistillSettings,
    checkpoint: Path | None,
    settings: Mapping[str, Any],
    overwrite: bool = False,
    monitoring: MonitoringSettings = MonitoringSettings(),  # noqa: B008, frozen
    student: nn.Module | None = None,
    start: Pretrained | None = None,
) -> DistillationRun:
    """Train a student and its branches; only the checkpoint is written.

    An epoch passes over the unlabelled images, too, if there are any. They are in all terms of the loss but
    the cross-entropy, and not in the re-fit.

    Args:
        spec: The student's architecture.
        teacher: The frozen teacher.
        data: Training and validation splits, and unlabelled images.
        config: Checked settings.
        checkpoint: See :func:`imf_deploy.training.loop.fit`, also for the next three arguments.
        settings: Everything that determines the result.
        overwrite: Whether a checkpoint of other settings may be replaced.
        monitoring: What is recorded and reported during the training.
        student: The student, which is trained in place; by default a new one.
        start: Weights that a new student starts from; by default it starts fresh.
    """
    torch.manual_seed(config.seed)
    if start:
        student = build_model(spec)
        start.load(student)
    recent = None
    # With unlabelled images, the re-fit runs on other batches than the training.
    if config.refit and monitoring.teacher_outputs_gb and data.unlabelled is None:
        recent = RecentLogits(first_refitted(config.epochs) / config.epochs, FLOATS)
    task, graph, blocks, features = imf_task(spec, teacher, config, recent, student, data.preprocess.task)
    _report_missing(spec, graph)
    title, seen = f"Distilling {spec.name}", with_unlabelled(data)
    history = fit(task, seen, config, title, checkpoint, settings, overwrite, monitoring)
    return DistillationRun(teacher, config, task, graph, blocks, features, history, start)


def _report_missing(spec: ModelSpec, graph: TrainingGraph) -> None:
    """Report blocks that no ``imf@k`` can end with."""
    found, members = len(student_blocks(graph.student, spec)), graph.imf.members
    if members < found:
        names = ", ".join(imf(k) for k in range(members + 1, found + 1))
        say(f"{spec.name} has no {names}: its last blocks leave no room for IFDs in a student's size")


def save_distilled(record: DistilledFile, graph: nn.Module, checkpoint: Path) -> DistilledFile:
    """Write a training graph with its record, and remove its checkpoint.

    Args:
        record: The record of the file, without its hash.
        graph: Student and branches.
        checkpoint: Checkpoint of the finished training.

    Raises:
        ImfDeployError: a weight or a statistic is not finite; nothing is written.
    """
    check_finite(graph.state_dict(), "at the end")
    save_weights(record.path, graph.state_dict())
    saved = record.revised(sha256=sha256_file(record.path)).save()
    checkpoint.unlink(missing_ok=True)
    return saved


def recorded_settings(artifact: DistilledFile) -> DistillSettings:
    """Return the settings of a distilled file.

    Raises:
        ImfDeployError: the settings are damaged.
    """
    return from_record(DistillSettings, artifact.config)


def load_distilled(artifact: DistilledFile, trusted: Collection[str] = ()) -> Distilled:
    """Rebuild the training graph of a distilled file.

    Args:
        artifact: Its record.
        trusted: Factories whose code the user allows to run; see ``ModelSpec.from_dict``.

    Raises:
        UsageError: the record names a factory that is not trusted.
        ImfDeployError: the file is damaged, or does not fit its record.
    """
    spec = ModelSpec.from_dict(artifact.model, trusted)
    spec.check_preprocess(artifact.preprocess, str(artifact.path))
    try:
        design = recorded_settings(artifact)
        student = build_model(spec)
        # Release 0.2.0 recorded no shapes: its branches are on the blocks that are found, without a limit.
        taps = tuple(block.name for block in artifact.blocks) if artifact.ifds else spec.taps
        blocks, features = find_blocks(student, spec.image_size, taps), artifact.teacher_features
        if not len(blocks) == len(features) == len(artifact.ifds or blocks):
            raise ValueError(f"{len(blocks)} blocks, {len(features)} features, {len(artifact.ifds)} IFDs")
        if not 0 <= (artifact.members or 0) <= len(blocks):
            raise ValueError(f"{artifact.members} of {len(blocks)} branches")
        plan = BranchPlan(blocks, features, artifact.ifds, artifact.members)
        graph = attach_branches(student, plan, spec.num_classes, design)
    except (KeyError, IndexError, ValueError, ImfDeployError) as error:
        raise ImfDeployError(f"the record of {artifact.path} is damaged ({error})", "Distil again") from error
    tensors = read_weights(artifact.path)
    try:
        graph.imf.make_room(name.removeprefix("imf.") for name in tensors if name.startswith("imf."))
    except ValueError as error:
        raise ImfDeployError(f"{artifact.path} is damaged ({error})", "Distil again") from error
    load_weights(graph, tensors, str(artifact.path))
    return Distilled(artifact, spec, graph.eval(), blocks, features, design)
