"""The order of the images of an epoch."""

from __future__ import annotations

import torch
from torch import Tensor


class EpochOrder:
    """Draws the images of every epoch, and their order.

    Without labels that are missing, an epoch is a permutation of all images.

    Images without a label are spread evenly: every batch has the same number of labelled images, give or take
    one, in a random order.

    Args:
        labels: Classes, ``int64 [N]``; below 0 for images without a label.
        batch_size: Images in a batch.
    """

    def __init__(self, labels: Tensor, batch_size: int) -> None:
        self._count = len(labels)
        self._batch_size = batch_size
        self._labelled = labels >= 0
        self._spread = not bool(self._labelled.all())

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return positions of images, ``int64 [N]``.

        Args:
            generator: The draws depend on it only.
        """
        order = torch.randperm(self._count, generator=generator)
        if not self._spread:
            return order
        labelled = self._labelled[order]
        groups = order[labelled], order[~labelled]
        places = torch.cat([(torch.arange(len(group)) + 0.5) / max(len(group), 1) for group in groups])
        spread = torch.cat(groups)[places.argsort(stable=True)]
        # Mixing takes the preceding image of a batch.
        batches = torch.split(spread, self._batch_size)
        return torch.cat([batch[torch.randperm(len(batch), generator=generator)] for batch in batches])
