"""The order of the images of an epoch."""

from __future__ import annotations

import torch
from torch import Tensor


class EpochOrder:
    """Draws the images of every epoch, and their order.

    An epoch is a permutation of all images, except for two cases:

    - Balanced classes: the epoch has as many images as before, but an equal number of every class. Of ``L``
      labelled images and ``K`` classes, each class gets ``L // K`` draws, and classes drawn at random get the
      remaining ones. The images of a class are drawn equally often, give or take one: those of a rare class
      several times, those of a common class not all in each epoch.
    - Images without a label are spread evenly: every batch has the same number of labelled images, give or
      take one, in a random order.

    Args:
        labels: Classes, ``int64 [N]``; below 0 for images without a label.
        batch_size: Images in a batch.
        balanced: Whether classes are balanced.
    """

    def __init__(self, labels: Tensor, batch_size: int, balanced: bool = False) -> None:
        self._count = len(labels)
        self._batch_size = batch_size
        self._labelled = labels >= 0
        self._spread = not bool(self._labelled.all())
        classes = sorted(set(labels[self._labelled].tolist())) if balanced else []
        self._members = [(labels == number).nonzero().flatten() for number in classes]

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return positions of images, ``int64 [N]``.

        Args:
            generator: The draws depend on it only.
        """
        order = torch.randperm(self._count, generator=generator)
        if self._members:
            order = torch.cat([self._balanced(generator), order[~self._labelled[order]]])
        if not self._spread:
            return order
        labelled = self._labelled[order]
        groups = order[labelled], order[~labelled]
        places = torch.cat([(torch.arange(len(group)) + 0.5) / max(len(group), 1) for group in groups])
        spread = torch.cat(groups)[places.argsort(stable=True)]
        # Mixing takes the preceding image of a batch.
        batches = torch.split(spread, self._batch_size)
        return torch.cat([batch[torch.randperm(len(batch), generator=generator)] for batch in batches])

    def _balanced(self, generator: torch.Generator) -> Tensor:
        """Return as many positions as there are labelled images, of all classes equally often."""
        each, left = divmod(int(self._labelled.sum()), len(self._members))
        more = torch.randperm(len(self._members), generator=generator) < left
        drawn = []
        for members, extra in zip(self._members, more.tolist(), strict=True):
            rounds = -(-(each + extra) // len(members))
            order = [torch.randperm(len(members), generator=generator) for _ in range(rounds)]
            drawn.append(members[torch.cat(order)[: each + extra]] if order else members[:0])
        whole = torch.cat(drawn)
        return whole[torch.randperm(len(whole), generator=generator)]
