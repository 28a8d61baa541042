"""Labels as rows of weights, for batches whose images do not count equally in the supervised loss."""

from __future__ import annotations

import torch
from torch import Tensor

from imf_deploy.data import DataSet
from imf_deploy.data.given import GivenSplit, label_rows
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
        weights: Weight of each class, ``float32 [classes]``; ``None`` gives all the same.
    """

    def __init__(self, classes: int, weights: Tensor | None = None) -> None:
        self._classes = classes
        self._weights = weights

    @classmethod
    def of(cls, data: DataSet, config: TrainingSettings, device: torch.device) -> Weighing | None:
        """Return the weighing of the training images.

        Returns:
            ``None`` if all of them count equally, or if they come from a loader, which gives rows itself.
        """
        if isinstance(data.train, GivenSplit):
            return None
        classes, labels = data.preprocess.num_classes, data.train.labels
        if config.balance == "loss":
            return cls(classes, class_weights(labels, classes).to(device))
        return cls(classes) if bool((labels < 0).any()) else None

    def rows(self, labels: Tensor) -> Tensor:
        """Return weights ``float32 [N, classes]`` for ``int64 [N]``, which is below 0 without a label."""
        rows = label_rows(labels, self._classes)
        return rows if self._weights is None else rows * self._weights


def scaled(rows: Tensor) -> Tensor:
    """Scale the weights of a batch to a mean of 1 over all its images, in all processes.

    Args:
        rows: This process's part of the batch, ``[N, classes]``; see :meth:`Weighing.rows`.
    """
    totals = distributed.all_sum(torch.stack([rows.sum(), rows.new_full((), len(rows))]))
    return rows * totals[1] / totals[0].clamp_min(torch.finfo(rows.dtype).tiny)
