"""Stage: distil a teacher into a student by IMF."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imf_deploy import defaults
from imf_deploy.artifact import Artifact, claim, describe
from imf_deploy.data import DataSet
from imf_deploy.errors import ImfDeployError
from imf_deploy.files import fingerprint, finite
from imf_deploy.method.branches import ImfBranches, Taps, TrainingGraph
from imf_deploy.method.losses import LossWeights, TeacherOutputs, imf_losses
from imf_deploy.models import (
    Block,
    ModelSpec,
    build_model,
    find_blocks,
    load_weights,
    read_weights,
    save_weights,
    student_blocks,
    tensor_hashes,
)
from imf_deploy.processes import world_size
from imf_deploy.train.config import Monitoring, TrainConfig
from imf_deploy.train.distributed import batch_mean, on_first
from imf_deploy.train.loop import fit
from imf_deploy.train.task import Known
from imf_deploy.train.teacher import Teacher


@dataclass(frozen=True)
class DistillConfig:
    """Which student, and how it is distilled.

    Attributes:
        student: Name of the architecture.
        stem_strides: Strides at the first reductions; nothing chooses them by the image size.
        weights: alpha, beta and the temperature.
        train: Settings of the training.
        taps: Modules of the student that end a block; empty finds them.
        teacher_tap: Module of the teacher whose output is its features; empty takes its last block.
    """

    student: str = defaults.STUDENT
    stem_strides: tuple[int, ...] | None = None
    weights: LossWeights = field(default_factory=LossWeights)
    train: TrainConfig = field(default_factory=TrainConfig)
    taps: tuple[str, ...] = ()
    teacher_tap: str = ""


class ImfTask:
    """The IMF loss of a training graph against a frozen teacher, for :func:`imf_deploy.train.loop.fit`.

    Args:
        graph: ``[N, 3, S, S]`` -> the student's logits and :class:`BranchOutputs`.
        teacher: Gets a hook, which :meth:`close` takes off again.
        features: The teacher's last feature map.
        weights: Of the terms of the loss.
        label_smoothing: Of the labels.
    """

    def __init__(
        self,
        graph: nn.Module,
        teacher: Teacher,
        features: Block,
        weights: LossWeights,
        label_smoothing: float = 0.0,
    ) -> None:
        self.module = graph
        self._teacher = Taps(teacher.module, [features])
        self._weights = weights
        self._label_smoothing = label_smoothing
        branches = next(module for module in graph.modules() if isinstance(module, ImfBranches))
        self._sides = sorted(branches.sides)

    def targets(self, parts: Sequence[Tensor]) -> list[TeacherOutputs]:
        """Run the teacher on all parts of a batch; the powers of its maps are those of the whole."""
        return self.known_targets(parts, [None] * len(parts))

    def known_targets(self, parts: Sequence[Tensor], known: Sequence[Known | None]) -> list[TeacherOutputs]:
        """Return what :meth:`targets` does; the teacher sees only what is not known."""
        outputs = []
        with torch.no_grad():
            for images, its in zip(parts, known, strict=True):
                logits, features = its.get(images, self._see) if its else self._see(images)
                outputs.append(TeacherOutputs.of(logits, features, self._sides))
            if len(parts) > 1 or world_size() > 1:
                powers = batch_mean(
                    [torch.stack([output.powers[side] for side in self._sides]) for output in outputs],
                    [len(images) for images in parts],
                )
                shared = dict(zip(self._sides, powers, strict=True))
                outputs = [replace(output, powers=shared) for output in outputs]
        return outputs

    def _see(self, images: Tensor) -> list[Tensor]:
        logits, maps = self._teacher.run(images)
        return [logits, *maps]

    def losses(
        self, network: nn.Module, images: Tensor, labels: Tensor, target: TeacherOutputs
    ) -> dict[str, Tensor]:
        """Return the weighted terms of the loss for one part of a batch."""
        logits, branches = network(images)
        return imf_losses(logits, branches, target, labels, self._weights, self._label_smoothing)

    def predict(self, images: Tensor) -> Tensor:
        """Return the logits of the student's own head, ``[N, classes]``."""
        logits: Tensor = self.module(images)[0]
        return logits

    def close(self) -> None:
        """Take the hook off the teacher."""
        self._teacher.remove()


@dataclass(frozen=True)
class Distilled:
    """A trained student with its branches, as the strip stage reads it.

    Attributes:
        artifact: The record of the file.
        spec: The student's architecture.
        graph: Student and branches with their trained weights, in evaluation mode.
        blocks: The student's blocks.
        teacher_features: The shape that the IFDs map to.
    """

    artifact: Artifact
    spec: ModelSpec
    graph: TrainingGraph
    blocks: list[Block]
    teacher_features: Block


def training_graph(spec: ModelSpec, teacher_features: Block) -> tuple[TrainingGraph, list[Block]]:
    """Build a student with fresh weights and a branch on each of its blocks."""
    student = build_model(spec)
    blocks = student_blocks(student, spec)
    branches = ImfBranches(blocks, teacher_features, spec.num_classes)
    graph = TrainingGraph(student, blocks, branches)
    return graph.to(memory_format=torch.channels_last), blocks


def distill(
    data: DataSet,
    teacher: Teacher,
    config: DistillConfig,
    path: Path,
    overwrite: bool = False,
    monitoring: Monitoring = Monitoring(),  # noqa: B008, frozen
) -> Artifact:
    """Distil a teacher into a student and write both the student and its branches.

    The teacher stays in evaluation mode without gradients. A file that the same recipe made before
    is taken as it is; a checkpoint beside it is gone on from, and removed at the end. Of several
    processes all call this, and the first one writes.

    Args:
        data: Training and validation splits; the test split is not touched.
        teacher: As :func:`imf_deploy.train.teacher.load_teacher` gives it.
        config: Settings.
        path: Where to write; tensors are named ``student.*`` and ``imf.*``.
        overwrite: Whether a file that another recipe made may be replaced.
        monitoring: What is kept and told meanwhile.

    Returns:
        The artifact; its evidence holds ``history``, ``blocks`` and ``teacher_features``.

    Raises:
        UsageError: unknown student, or a setting out of range.
        ImfDeployError: the teacher has other classes, the loss is not finite, or a file problem.
    """
    config.train.check()
    config.weights.check()
    monitoring.check()
    classes, size = data.preprocess.num_classes, data.preprocess.size
    if teacher.spec.num_classes != classes:
        raise ImfDeployError(
            f"the teacher knows {teacher.spec.num_classes} classes, the data has {classes}",
            "Train a teacher for this data: imf-deploy train-teacher",
        )
    spec = ModelSpec.for_images(config.student, classes, size, config.stem_strides, config.taps)
    settings = {
        "kind": "distilled",
        "student": spec.to_dict(),
        "data": data.fingerprint,
        "teacher": teacher.sha256,
        "config": asdict(config),
    }
    recipe = fingerprint(settings)
    checkpoint = path.with_suffix(".checkpoint")
    if made := on_first(lambda: claim(path, recipe, overwrite, unfinished=checkpoint.exists())):
        return made
    torch.manual_seed(config.train.seed)
    tap = (config.teacher_tap,) if config.teacher_tap else ()
    teacher_features = find_blocks(teacher.module, size, tap)[-1]
    graph, blocks = training_graph(spec, teacher_features)
    task = ImfTask(graph, teacher, teacher_features, config.weights, config.train.label_smoothing)
    title = f"Distilling {spec.name}"
    try:
        history = fit(task, data, config.train, title, checkpoint, settings, overwrite, monitoring)
    finally:
        task.close()

    return on_first(
        lambda: save_distilled(
            path,
            graph,
            checkpoint,
            parent=teacher.sha256,
            recipe=recipe,
            model=spec.to_dict(),
            preprocess=data.preprocess,
            evidence={
                "history": history,
                "blocks": [asdict(block) for block in blocks],
                "teacher_features": asdict(teacher_features),
                "teacher": teacher.spec.to_dict(),
                "teacher_accuracy": teacher.accuracy,
                "teacher_tensors": tensor_hashes(teacher.module.parameters()),
                "data": data.name,
                "data_config": data.config,
                "config": finite(asdict(config)),
            },
        )
    )


def save_distilled(path: Path, graph: nn.Module, checkpoint: Path, **fields: Any) -> Artifact:
    """Write a training graph with its record, and remove the checkpoint that led to it.

    Args:
        path: Where to write.
        graph: Student and branches.
        checkpoint: Of the training that is done.
        fields: Of the :class:`~imf_deploy.artifact.Artifact`.
    """
    save_weights(path, graph.state_dict())
    artifact = describe(path, kind="distilled", format="safetensors", **fields).save()
    checkpoint.unlink(missing_ok=True)
    return artifact


def load_distilled(artifact: Artifact, trusted: Collection[str] = ()) -> Distilled:
    """Build the training graph of a distilled file again.

    Args:
        artifact: Its record.
        trusted: Factories whose code the user lets run; see ``ModelSpec.from_dict``.

    Raises:
        UsageError: the record names a factory that is not trusted.
        ImfDeployError: the file is of another kind, damaged, or does not fit its record.
    """
    if artifact.kind != "distilled":
        raise ImfDeployError(
            f"{artifact.path} is a {artifact.kind}, not a distilled student",
            "Give what imf-deploy distill wrote",
        )
    spec = ModelSpec.from_dict(artifact.model, trusted)
    try:
        teacher_features = Block(**artifact.evidence["teacher_features"])
    except (KeyError, TypeError) as error:
        raise ImfDeployError(f"the record of {artifact.path} is damaged ({error})", "Distil again") from error
    graph, blocks = training_graph(spec, teacher_features)
    load_weights(graph, read_weights(artifact.path), str(artifact.path))
    return Distilled(artifact, spec, graph.eval(), blocks, teacher_features)
