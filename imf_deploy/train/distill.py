"""Stage: distil a teacher into a student by IMF."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from imf_deploy import defaults
from imf_deploy.artifact import Artifact, claim, describe
from imf_deploy.data import DataSet
from imf_deploy.errors import ImfDeployError
from imf_deploy.files import fingerprint
from imf_deploy.method.branches import ImfBranches, Taps, TrainingGraph
from imf_deploy.method.losses import LossWeights, imf_losses
from imf_deploy.models import (
    Block,
    ModelSpec,
    build_model,
    find_blocks,
    load_weights,
    read_weights,
    save_weights,
    tensor_hashes,
)
from imf_deploy.train.config import TrainConfig
from imf_deploy.train.loop import fit
from imf_deploy.train.teacher import Teacher


@dataclass(frozen=True)
class DistillConfig:
    """Which student, and how it is distilled.

    Attributes:
        student: Name of the architecture.
        stem_strides: Strides at the first reductions; nothing chooses them by the image size.
        weights: alpha, beta and the temperature.
        train: Settings of the training.
    """

    student: str = defaults.STUDENT
    stem_strides: tuple[int, ...] | None = None
    weights: LossWeights = field(default_factory=LossWeights)
    train: TrainConfig = field(default_factory=TrainConfig)


class ImfTask:
    """The IMF loss of a training graph against a frozen teacher, for :func:`imf_deploy.train.loop.fit`.

    Args:
        graph: ``[N, 3, S, S]`` -> the student's logits and :class:`BranchOutputs`.
        teacher: Gets a hook, which :meth:`close` takes off again.
        features: The teacher's last feature map.
        weights: Of the terms of the loss.
    """

    def __init__(self, graph: nn.Module, teacher: Teacher, features: Block, weights: LossWeights) -> None:
        self.module = graph
        self._teacher = Taps(teacher.module, [features])
        self._weights = weights

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms of the loss for one batch."""
        with torch.no_grad():
            teacher_logits, (teacher_features,) = self._teacher.run(images)
        logits, branches = self.module(images)
        return imf_losses(logits, branches, teacher_logits, teacher_features, labels, self._weights)

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
    blocks = find_blocks(student, spec.image_size)
    branches = ImfBranches(blocks, teacher_features, spec.num_classes)
    graph = TrainingGraph(student, blocks, branches)
    return graph.to(memory_format=torch.channels_last), blocks


def distill(
    data: DataSet, teacher: Teacher, config: DistillConfig, path: Path, overwrite: bool = False
) -> Artifact:
    """Distil a teacher into a student and write both the student and its branches.

    The teacher stays in evaluation mode without gradients. A file that the same recipe made before
    is taken as it is; a checkpoint beside it is gone on from, and removed at the end.

    Args:
        data: Training and validation splits; the test split is not touched.
        teacher: As :func:`imf_deploy.train.teacher.load_teacher` gives it.
        config: Settings.
        path: Where to write; tensors are named ``student.*`` and ``imf.*``.
        overwrite: Whether a file that another recipe made may be replaced.

    Returns:
        The artifact; its evidence holds ``history``, ``blocks`` and ``teacher_features``.

    Raises:
        UsageError: unknown student, or a setting out of range.
        ImfDeployError: the teacher has other classes, the loss is not finite, or a file problem.
    """
    config.train.check()
    config.weights.check()
    classes, size = data.preprocess.num_classes, data.preprocess.size
    if teacher.spec.num_classes != classes:
        raise ImfDeployError(
            f"the teacher knows {teacher.spec.num_classes} classes, the data has {classes}",
            "Train a teacher for this data: imf-deploy train-teacher",
        )
    spec = ModelSpec.for_images(config.student, classes, size, config.stem_strides)
    recipe = fingerprint(["distilled", spec.to_dict(), data.fingerprint, teacher.sha256, asdict(config)])
    checkpoint = path.with_suffix(".checkpoint")
    if made := claim(path, recipe, overwrite, unfinished=checkpoint.exists()):
        return made
    torch.manual_seed(config.train.seed)
    teacher_features = find_blocks(teacher.module, size)[-1]
    graph, blocks = training_graph(spec, teacher_features)
    task = ImfTask(graph, teacher, teacher_features, config.weights)
    try:
        history = fit(task, data, config.train, f"Distilling {spec.name}", checkpoint, recipe, overwrite)
    finally:
        task.close()
    save_weights(path, graph.state_dict())
    artifact = describe(
        path,
        kind="distilled",
        format="safetensors",
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
            "config": asdict(config),
        },
    ).save()
    checkpoint.unlink(missing_ok=True)
    return artifact


def load_distilled(artifact: Artifact) -> Distilled:
    """Build the training graph of a distilled file again.

    Raises:
        ImfDeployError: the file is of another kind, damaged, or does not fit its record.
    """
    if artifact.kind != "distilled":
        raise ImfDeployError(
            f"{artifact.path} is a {artifact.kind}, not a distilled student",
            "Give what imf-deploy distill wrote",
        )
    spec = ModelSpec.from_dict(artifact.model)
    try:
        teacher_features = Block(**artifact.evidence["teacher_features"])
    except (KeyError, TypeError) as error:
        raise ImfDeployError(f"the record of {artifact.path} is damaged ({error})", "Distil again") from error
    graph, blocks = training_graph(spec, teacher_features)
    load_weights(graph, read_weights(artifact.path), str(artifact.path))
    return Distilled(artifact, spec, graph.eval(), blocks, teacher_features)
