"""The interface between the training loop and what it trains."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from imf_deploy.teacher_memory.outputs import Run


class Task(Protocol):
    """What is trained, and with which loss."""

    module: nn.Module
    """Everything that is trained; its ``state_dict`` is the checkpoint."""
    network: nn.Module
    """The classifier within ``module``, whose body may have been trained before; the rest of it is new."""
    progress: float | Tensor
    """Finished fraction of the training, from 0 to 1; set before every step. A scalar tensor on the device if
    steps run as a CUDA graph: see :func:`risen`."""

    def targets(self, parts: Sequence[Tensor]) -> Sequence[Any]:
        """Return the targets of the loss, for each part of this process's share of a batch."""

    def losses(self, network: nn.Module, images: Tensor, labels: Tensor, target: Any) -> dict[str, Tensor]:
        """Return the weighted terms of the loss for one part; their sum is minimised.

        Args:
            network: Network that runs ``module``; if several processes train, its distributed form.
            images: ``[N, C, H, W]``.
            labels: ``int64 [N]``; or ``[N, classes]``, probabilities times the weights of their images.
            target: Target of these images.
        """

    def predict(self, images: Tensor) -> Tensor:
        """Return the logits used for validation accuracy."""


def risen(progress: float | Tensor, part: float) -> float | Tensor:
    """Return a factor that rises linearly from 0 to 1.

    Args:
        progress: Finished fraction of the training; if it is a tensor, so is the factor.
        part: Fraction of the training in which the factor rises; above 0.
    """
    factor = progress / part
    return factor.clamp_max(1.0) if isinstance(factor, Tensor) else min(factor, 1.0)


Known = Callable[[Tensor, Run], list[Tensor]]
"""Stored outputs of a teacher for one part of a batch: its images and what runs the teacher -> the outputs.
See :meth:`OutputsFile.get`."""


@runtime_checkable
class TaughtTask(Task, Protocol):
    """A task with a frozen teacher, which has to see each view of an image only once."""

    def known_targets(self, parts: Sequence[Tensor], known: Sequence[Known | None]) -> Sequence[Any]:
        """Return the same as :meth:`targets`, with the stored outputs of each part, and store new ones."""
