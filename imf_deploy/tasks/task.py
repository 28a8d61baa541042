"""The interface of a task: its loss, its head, and what metrics, gates and reports count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from imf_deploy.tasks.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor

Outputs = npt.NDArray[np.floating[Any]]
"""Outputs of a network for ``N`` images, ``[N, ...]``."""
Shares = npt.NDArray[np.floating[Any]]
"""A number from 0 to 1 for each image, ``float64 [N]``; their mean is a metric of the split."""

Scored = tuple[float, tuple[float, float] | None]
"""A metric, NaN if it is not defined, and its 95 % confidence interval if there is an honest one."""


class Task(Protocol):
    """One type of task; each is a separate file in this package."""

    metric: str
    """Name of the mean of :meth:`right` in reports, such as ``top-1``."""

    def fits(self, shape: tuple[int, ...], classes: int) -> bool:
        """Return whether outputs of a shape ``[N, ...]`` fit a head for this number of classes."""

    def loss(self, outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """Return the loss of outputs against labels, averaged over the images.

        Args:
            outputs: ``[N, ...]``.
            labels: Labels from the data set, or mixed or weighted ones.
            smoothing: Fraction of a label's weight that all classes share.
        """

    def imitation(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the distance of outputs from the teacher's, averaged over the images.

        Args:
            outputs: ``[..., N, classes]``: several heads may be compared at once.
            teacher: ``[N, classes]``.
            temperature: Divisor of both.
        """

    def right(self, outputs: Outputs, labels: npt.NDArray[Any]) -> Shares:
        """Return how correct each image's answer is, for accuracy and its gate."""

    def same(self, outputs: Outputs, reference: Outputs) -> Shares:
        """Return how far the answers of two networks agree for each image, for agreement and its gate."""

    def divergence(self, outputs: Outputs, reference: Outputs) -> npt.NDArray[np.float64]:
        """Return the distance of each image's outputs from a reference, ``[N]``; 0 if they are equal."""

    def interval(self, accuracy: float, images: int) -> tuple[float, float]:
        """Return the 95 % confidence interval of an accuracy measured on this number of images."""

    def shown(self, classes: int) -> list[Metric]:
        """Return the metrics that reports show of a network with this number of classes."""

    def undefined(self, metric: str, labels: npt.NDArray[Any], classes: Sequence[str]) -> str:
        """Return why a metric is not defined for these labels, whatever the answers; empty if it is.

        Args:
            metric: Its name.
            labels: ``[N]``.
            classes: Names of the classes.
        """

    def scores(
        self, metrics: Sequence[str], outputs: Outputs, labels: npt.NDArray[Any], classes: Sequence[str]
    ) -> list[Scored]:
        """Return metrics of answers, in the given order."""
