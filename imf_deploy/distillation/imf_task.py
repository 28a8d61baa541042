"""The training task of IMF: a student with branches, and a frozen teacher."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from imf_deploy.method.branches import (
    ImfBranches,
    Taps,
    TrainingGraph,
    branch_features,
    refining_units,
)
from imf_deploy.method.budget import BranchPlan, Trunk, budgeted_shapes, find_trunk
from imf_deploy.method.losses import TeacherOutputs, imf_losses
from imf_deploy.models import Block, ModelSpec, build_model, device_of, find_blocks, student_blocks
from imf_deploy.processes import world_size
from imf_deploy.settings import BranchSettings, DistillSettings, LossSettings
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.tasks.task import Task
from imf_deploy.teacher_memory.recent_logits import RecentLogits
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training.distributed import batch_mean
from imf_deploy.training.task import Known, risen


def training_graph(
    spec: ModelSpec, teacher_blocks: Sequence[Block], design: BranchSettings, student: nn.Module | None = None
) -> tuple[TrainingGraph, list[Block], list[Block]]:
    """Build a student and branches with fresh weights, so that no ``imf@k`` costs more than the student.

    Args:
        spec: The student's architecture.
        teacher_blocks: Blocks of the teacher in order, or only those that the branches learn.
        design: Design of the branches.
        student: The student; by default a new one.

    Returns:
        The graph, the student's blocks that have a branch, and the teacher's block that each branch learns.
    """
    student = student or build_model(spec)
    plan = plan_branches(student, spec, teacher_blocks, design)
    return attach_branches(student, plan, spec.num_classes, design), plan.blocks, plan.features


def student_trunk(student: nn.Module, spec: ModelSpec, design: BranchSettings) -> Trunk:
    """Return the student's blocks that branches are built on, and which of them an ``imf@k`` may end with."""
    blocks = student_blocks(student, spec)
    return find_trunk(student, spec.image_size, spec.num_classes, blocks, not spec.taps, design)


def plan_branches(
    student: nn.Module, spec: ModelSpec, teacher_blocks: Sequence[Block], design: BranchSettings
) -> BranchPlan:
    """Plan the branches of a student; see :func:`training_graph`."""
    trunk = student_trunk(student, spec, design)
    count = len(trunk.blocks)
    features = branch_features(design, teacher_blocks, count)
    units = refining_units(design, count)
    shapes = budgeted_shapes(trunk, features, units, spec.num_classes, design)
    return BranchPlan(trunk.blocks, features, shapes, trunk.members)


def attach_branches(
    student: nn.Module, plan: BranchPlan, classes: int, design: BranchSettings
) -> TrainingGraph:
    """Add branches with fresh weights to a student, on the student's device.

    Args:
        student: The network; it is not changed, but for its memory layout.
        plan: Where the branches are, and how they are built.
        classes: Number of logits.
        design: Design of the branches.
    """
    branches = ImfBranches(plan.blocks, plan.features, classes, design, plan.shapes, plan.members)
    graph = TrainingGraph(student, plan.blocks, branches.to(device_of(student)))
    return graph.to(memory_format=torch.channels_last)


def warmed_up(terms: dict[str, Tensor], progress: float | Tensor, warmup: float) -> dict[str, Tensor]:
    """Return the terms of the loss, with those of the branches reduced during their warm-up.

    Args:
        terms: Terms from :func:`imf_deploy.method.losses.imf_losses`.
        progress: Finished fraction of the training, from 0 to 1.
        warmup: Fraction of the training in which the weight of the branches rises from 0; 0 for none.
    """
    if not warmup:
        return terms
    factor = risen(progress, warmup)
    return {n: t if n in ("cross_entropy", "student_kd") else t * factor for n, t in terms.items()}


class ImfTask:
    """The IMF loss of a training graph against a frozen teacher, for :func:`imf_deploy.training.loop.fit`.

    Args:
        graph: ``[N, C, H, W]`` -> the student's logits and :class:`BranchOutputs`.
        teacher: The frozen teacher.
        features: The teacher's feature map that each branch learns.
        weights: Weights of the terms of the loss.
        label_smoothing: Label smoothing of the cross-entropy.
        branch_warmup: Fraction of the training in which the branches' weight rises.
        recent: Keeps the teacher's logits for :meth:`teach`.
        task: Task that defines the supervised and the imitating terms.
    """

    progress: float | Tensor = 0.0

    def __init__(
        self,
        graph: nn.Module,
        teacher: Teacher,
        features: Sequence[Block],
        weights: LossSettings,
        label_smoothing: float = 0.0,
        branch_warmup: float = 0.0,
        recent: RecentLogits | None = None,
        task: Task = CLASSIFICATION,
    ) -> None:
        self.module = graph
        self.network = next(m for m in graph.modules() if isinstance(m, TrainingGraph)).student
        self._recent, self._task = recent, task
        tapped = list(dict.fromkeys(features))
        self._teacher = teacher
        self._taps = Taps(teacher.module, tapped)
        self._weights = weights
        self._label_smoothing = label_smoothing
        self._warmup = branch_warmup
        branches = next(module for module in graph.modules() if isinstance(module, ImfBranches))
        self._targets = [
            (tapped.index(block), side) for block, side in zip(features, branches.sides, strict=True)
        ]

    def targets(self, parts: Sequence[Tensor]) -> list[TeacherOutputs]:
        """Run the teacher on all parts of a batch; the powers of its maps are those of the whole."""
        return self.known_targets(parts, [None] * len(parts))

    def known_targets(self, parts: Sequence[Tensor], known: Sequence[Known | None]) -> list[TeacherOutputs]:
        """Return the same as :meth:`targets`; the teacher runs only on images that are not stored."""
        outputs = []
        with torch.no_grad():
            for images, its in zip(parts, known, strict=True):
                logits, *features = its(images, self._see) if its else self._see(images)
                outputs.append(TeacherOutputs.of(logits, features, self._targets))
            if len(parts) > 1 or world_size() > 1:
                powers = [torch.cat([*output.powers.values()]) for output in outputs]
                whole = batch_mean(powers, [len(images) for images in parts])
                sizes = [len(power) for power in outputs[0].powers.values()]
                shared = dict(zip(outputs[0].powers, torch.split(whole, sizes), strict=True))
                outputs = [replace(output, powers=shared) for output in outputs]
        return outputs

    def _see(self, images: Tensor) -> list[Tensor]:
        logits, *maps = self._teacher.look(images, self._taps)
        if self._recent:
            self._recent.keep(self.progress, images, logits)
        return [logits, *maps]

    def teach(self, images: Tensor) -> Tensor:
        """Return the teacher's logits ``[N, classes]``; the teacher runs only if they are not stored."""
        known = self._recent.take(images) if self._recent else None
        return self._teacher.logits(images) if known is None else known

    def losses(
        self, network: nn.Module, images: Tensor, labels: Tensor, target: TeacherOutputs
    ) -> dict[str, Tensor]:
        """Return the weighted terms of the loss for one part of a batch."""
        logits, branches = network(images)
        terms = imf_losses(
            logits, branches, self._targets, target, labels, self._weights, self._label_smoothing, self._task
        )
        return warmed_up(terms, self.progress, self._warmup)

    def predict(self, images: Tensor) -> Tensor:
        """Return the logits of the student's own head, ``[N, classes]``."""
        return cast(Tensor, self.module(images)[0])


def imf_task(
    spec: ModelSpec,
    teacher: Teacher,
    config: DistillSettings,
    recent: RecentLogits | None = None,
    student: nn.Module | None = None,
    problem: Task = CLASSIFICATION,
) -> tuple[ImfTask, TrainingGraph, list[Block], list[Block]]:
    """Build the task of a distillation.

    Args:
        spec: The student's architecture.
        teacher: The frozen teacher.
        config: Settings of the distillation.
        recent: Keeps the teacher's logits for the re-fit.
        student: The student; by default a new one.
        problem: Defines the supervised and the imitation loss.

    Returns:
        The task, its training graph, the student's blocks, and the teacher's block that each branch learns.
    """
    its = find_blocks(teacher.module, spec.image_size, (config.teacher_tap,) if config.teacher_tap else ())
    graph, blocks, features = training_graph(spec, its, config, student)
    smoothing, warmup = config.label_smoothing, config.branch_warmup
    task = ImfTask(graph, teacher, features, config, smoothing, warmup, recent, problem)
    return task, graph, blocks, features
