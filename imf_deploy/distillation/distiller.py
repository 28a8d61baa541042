"""IMF as one module for any training loop: PyTorch, Lightning, Accelerate, the Hugging Face Trainer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from imf_deploy.distillation.imf_task import attach_branches, plan_branches, warmed_up
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.image_size import ImageSize, short
from imf_deploy.method.branches import ImfBranches, Taps
from imf_deploy.method.losses import TeacherOutputs, imf_losses
from imf_deploy.models import ModelSpec, check_behaviour, find_blocks, only_logits
from imf_deploy.models.blocks import probe
from imf_deploy.settings import DistillSettings


@dataclass(frozen=True)
class ImfLosses:
    """The loss of one batch, term by term; each term is multiplied by its weight.

    Attributes:
        total: The sum of the terms, a scalar, to be minimised.
        cross_entropy: Cross-entropy of the student's own logits and the labels.
        student_kd: Divergence of the student's own logits from the teacher's.
        branch_kd: Mean divergence of the branches' logits.
        prefix_kd: Mean divergence of the attentive logits.
        feature: Mean distance between the branches' features and the teacher's.
        logits: The student's own logits ``[N, classes]``, detached, for metrics.
    """

    total: Tensor
    cross_entropy: Tensor
    student_kd: Tensor
    branch_kd: Tensor
    prefix_kd: Tensor
    feature: Tensor
    logits: Tensor


class ImfDistiller(nn.Module):
    """A student with its branches under a frozen teacher; calling it returns the losses of a batch.

    The student is trained in place. The teacher is put into evaluation mode and frozen. It is neither in
    ``parameters()`` nor in ``state_dict()``, but follows the module to its device and data type. The loss is
    that of :func:`imf_deploy.distill` (Kim, Lee, Woo, IJCAI 2023, with this project's choices; see
    ``docs/method.md``).

    Example:
        >>> imf = ImfDistiller(student, teacher, image_size=32)
        >>> optimizer = torch.optim.SGD(imf.parameters(), 0.05, momentum=0.9)
        >>> for images, labels in loader:
        ...     optimizer.zero_grad()
        ...     imf(images, labels).total.backward()
        ...     optimizer.step()
        >>> products = imf_deploy.strip(imf)

    Args:
        student: ``[N, C, H, W]`` -> logits ``[N, classes]``.
        teacher: A trained network of the same form, with the same classes.
        image_size: Size of the images: the side of a square in pixels, ``(height, width)``, or ``(channels,
            height, width)`` if there is one channel. The blocks of both networks are found at this size.
        settings: The weights of the loss, the design of the branches, and the taps. Only ``label_smoothing``
            is used of the settings for training.

    Attributes:
        student: The student. ``imf.student(images)`` returns its logits.
        progress: Finished fraction of the training, from 0 to 1; only ``settings.branch_warmup`` uses it.

    Raises:
        UsageError: a setting is out of range, or no exported file could reproduce the student's answers.
        ImfDeployError: a network does not run on such images, no blocks are found, or the classes differ.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        image_size: ImageSize = 224,
        settings: DistillSettings = DistillSettings(),  # noqa: B008, frozen
    ) -> None:
        super().__init__()
        if ours := [m for m in student.modules() if any(m is its for its in teacher.modules())]:
            raise UsageError(
                f"student and teacher share {len(ours)} module(s), but the teacher must not change",
                "Use two networks: copy.deepcopy(network)",
            )
        name = type(student).__name__
        classes, theirs = (
            only_logits(network, probe(network, image_size)).shape[1] for network in (student, teacher)
        )
        if classes != theirs:
            raise ImfDeployError(
                f"the teacher has {theirs} classes, but the student has {classes}",
                "Use the same classes for both networks",
            )
        check_behaviour(student, image_size, name)
        teacher.eval().requires_grad_(False)
        tap = (settings.teacher_tap,) if settings.teacher_tap else ()
        self.spec = ModelSpec(name, classes, image_size, taps=settings.student_taps)
        plan = plan_branches(student, self.spec, find_blocks(teacher, image_size, tap), settings)
        self.graph = attach_branches(student, plan, classes, settings)
        self.blocks, self.features, self.settings, self.progress = plan.blocks, plan.features, settings, 0.0
        tapped = list(dict.fromkeys(self.features))
        sides = self.branches.sides
        self._targets = [(tapped.index(f), side) for f, side in zip(self.features, sides, strict=True)]
        # A tuple keeps the teacher from being a submodule.
        self._teacher = (teacher, Taps(teacher, tapped))

    @property
    def student(self) -> nn.Module:
        """The student, which is trained in place."""
        return self.graph.student

    @property
    def teacher(self) -> nn.Module:
        """The frozen teacher."""
        return self._teacher[0]

    @property
    def branches(self) -> ImfBranches:
        """The feature distillers, their heads, and the attentive weights."""
        return self.graph.imf

    def forward(self, images: Tensor, labels: Tensor) -> ImfLosses:
        """Return the losses of a batch.

        Args:
            images: ``float [N, C, H, W]``, normalised for both networks.
            labels: ``int64 [N]``, or probabilities ``[N, classes]``.

        Raises:
            UsageError: the images have another size than ``image_size``.
        """
        if images.shape[1:] != self.spec.shape:
            raise UsageError(
                f"a batch has the shape {list(images.shape)}, but this distiller was made for "
                f"[N, {', '.join(map(str, self.spec.shape))}]",
                f"Use ImfDistiller(..., image_size={short(tuple(images.shape[1:]))})"
                if images.dim() == 4
                else "Use batches of images",
            )
        with torch.no_grad():
            taught = TeacherOutputs.of(*self._teacher[1].run(images), self._targets)
        own, branches = self.graph(images)
        smoothing = self.settings.label_smoothing
        terms = imf_losses(own, branches, self._targets, taught, labels, self.settings, smoothing)
        terms = warmed_up(terms, self.progress, self.settings.branch_warmup)
        return ImfLosses(total=torch.stack([*terms.values()]).sum(), **terms, logits=own.detach())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self
