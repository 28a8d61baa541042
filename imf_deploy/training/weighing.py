"""Labels as rows of weights, for batches whose images do not count equally in the supervised loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from imf_deploy.data import DataSet
from imf_deploy.data.given import GivenSplit
from imf_deploy.settings import TrainingSettings
from imf_deploy.training import distributed


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Return a weight for each class: the inverse of its frequency, scaled to a mean of 1 over the images.

    They are scikit-learn's ``class_weight="balanced"``.

    Args:
        labels: Classes of the training images, ``int64 [N]``; below 0 without a label.
        classes: Number of classes.

    Returns:
        ``float32 [classes]``.
    """
    counts = labels[labels >= 0].bincount(minlength=classes)
    return counts.sum() / (classes * counts.clamp_min(1)).float()


class Weighing:
    """Gives every image a weight in the supervised loss: that of its class, or 0 if it has no label.

    The loss of a batch is ``sum_i w_i CE_i / sum_i w_i`` over the whole batch, as in PyTorch's
    ``CrossEntropyLoss``, however many parts and processes compute it. It is 0 if no image of the batch has a
    label. If images are mixed, so are their weights: an image that is mixed with an unlabelled one counts by
    its own share.

    Args:
        classes: Number of classes.
        always: Whether images are known to count differently; otherwise every batch is searched for missing
            labels.
        weights: Weight of each class, ``float32 [classes]``; ``None`` gives all the same.
    """

    def __init__(self, classes: int, always: bool, weights: Tensor | None = None) -> None:
        self._classes = classes
        self._always = always
        self._weights = weights

    @classmethod
    def of(cls, data: DataSet, config: TrainingSettings, device: torch.device) -> Weighing | None:
        """Return the weighing of the training images; ``None`` if all of them count equally."""
        classes = data.preprocess.num_classes
        if isinstance(data.train, GivenSplit):
            return cls(classes, always=False)
        labels = data.train.labels
        if config.balance == "loss":
            return cls(classes, always=True, weights=class_weights(labels, classes).to(device))
        return cls(classes, always=True) if bool((labels < 0).any()) else None

    def rows(self, labels: Tensor) -> Tensor:
        """Return weights ``float32 [N, classes]`` for ``int64 [N]``, which are returned if all count equally.

        Args:
            labels: Classes; below 0 without a label.
        """
        if not self._always and bool((labels >= 0).all()):
            return labels
        known = labels >= 0
        rows = functional.one_hot(labels.clamp_min(0), self._classes).float() * known[:, None]
        return rows if self._weights is None else rows * self._weights

    @staticmethod
    def scaled(labels: Tensor, whole: int) -> Tensor:
        """Scale the weights of a batch to a mean of 1 over all processes.

        Args:
            labels: This process's part of the batch, from :meth:`rows`; ``int64`` labels are returned.
            whole: Number of images in the batch, over all processes.
        """
        if labels.ndim == 1:
            return labels
        total = distributed.all_sum(labels.sum())
        return labels * whole / total.clamp_min(torch.finfo(total.dtype).tiny)
