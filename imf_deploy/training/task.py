"""What the training loop asks of whatever it trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from imf_deploy.teacher_memory.outputs import OutputsFile, Run


class Task(Protocol):
    """What is trained, and by which loss."""

    module: nn.Module
    """Everything that is trained; its ``state_dict`` is the checkpoint."""
    progress: float | Tensor
    """Part of the training that is done, from 0 to 1; set before every step. A scalar tensor on the device
    where steps run as a CUDA graph: see :func:`risen`."""

    def targets(self, parts: Sequence[Tensor]) -> Sequence[Any]:
        """Return what the loss compares with, for each part of this process's share of a batch."""

    def losses(self, network: nn.Module, images: Tensor, labels: Tensor, target: Any) -> dict[str, Tensor]:
        """Return the weighted terms of the loss for one part; their sum is minimised.

        Args:
            network: Runs ``module``; where several processes train, it is its distributed form.
            images: ``[N, 3, S, S]``.
            labels: ``int64 [N]``, or probabilities ``[N, classes]``.
            target: Of these images.
        """

    def predict(self, images: Tensor) -> Tensor:
        """Return the logits by which validation accuracy is measured."""


def risen(progress: float | Tensor, part: float) -> float | Tensor:
    """Return a factor that rises linearly from 0 to 1.

    Args:
        progress: Part of the training that is done; the factor is a tensor where this is one.
        part: Part of the training in which the factor rises; above 0.
    """
    if isinstance(progress, Tensor):
        return (progress / part).clamp_max(1.0)
    return min(progress / part, 1.0)


@dataclass(frozen=True)
class Known:
    """What is kept of a teacher's outputs for one part of a batch.

    Attributes:
        file: Where.
        views: Of the part's images, ``int64 [N]``.
        step: Of the training.
    """

    file: OutputsFile
    views: Tensor
    step: int

    def get(self, images: Tensor, run: Run) -> list[Tensor]:
        """Return what ``run`` says of the part's images; see :meth:`OutputsFile.get`."""
        return self.file.get(self.views, self.step, images, run)


@runtime_checkable
class TaughtTask(Task, Protocol):
    """A task whose teacher is frozen, so that it has to see each view of an image only once."""

    def known_targets(self, parts: Sequence[Tensor], known: Sequence[Known | None]) -> Sequence[Any]:
        """Return what :meth:`targets` does, with what is kept for each part, and keep what is new."""
