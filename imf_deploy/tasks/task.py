"""What a kind of problem decides: its loss, its head, and what a metric, a gate and a report count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Outputs = npt.NDArray[np.floating[Any]]
"""What a network puts out for ``N`` images, ``[N, ...]``."""
Shares = npt.NDArray[np.floating[Any]]
"""A number from 0 to 1 for each image, ``float64 [N]``; their mean is a metric of the split."""

INPUT = "images"
OUTPUT = "logits"
"""Names of the input and the output of the files that are written."""


class Task(Protocol):
    """One kind of problem; each is a file of its own in this package."""

    metric: str
    """What reports call the mean of :meth:`right`, such as ``top-1``."""

    def fits(self, shape: tuple[int, ...], classes: int) -> bool:
        """Return whether outputs of a shape ``[N, ...]`` are those of a head for so many classes."""

    def loss(self, outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """Return the loss of outputs against labels, averaged over the images.

        Args:
            outputs: ``[N, ...]``.
            labels: As the data set gives them, or mixed ones.
            smoothing: Part of a label's weight that all classes share.
        """

    def imitation(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return how far outputs are from the teacher's, averaged over the images.

        Args:
            outputs: ``[..., N, classes]``: several heads may be compared at once.
            teacher: ``[N, classes]``.
            temperature: Divides both.
        """

    def right(self, outputs: Outputs, labels: npt.NDArray[Any]) -> Shares:
        """Return how far each image's answer is right: what accuracy and its gate count."""

    def same(self, outputs: Outputs, reference: Outputs) -> Shares:
        """Return how far two networks give an image the same answer: what agreement and its gate count."""

    def divergence(self, outputs: Outputs, reference: Outputs) -> npt.NDArray[np.float64]:
        """Return how far the outputs for each image are from a reference, ``[N]``; 0 for equal ones."""

    def interval(self, accuracy: float, images: int) -> tuple[float, float]:
        """Return the 95 % confidence interval of an accuracy that was measured on so many images."""
