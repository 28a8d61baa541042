"""The terms of the loss over an epoch: summed, and checked for values that are not finite."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from imf_deploy.errors import DivergedError


class Terms:
    """Sums the terms of the steps of an epoch.

    Reading a value back from a GPU makes the host wait for it. The terms of several steps are therefore kept
    on the device and read together.

    Args:
        every: Number of steps whose terms are read together.
    """

    def __init__(self, every: int = 1) -> None:
        self._every = every
        self._names: tuple[str, ...] = ()
        self._before: Mapping[str, Tensor] = {}
        self._sums: Tensor | None = None
        self._recent: Tensor | None = None
        self._count = 0
        self._last = 0
        self._epoch = 0

    def begin(self, epoch: int, sums: Mapping[str, Tensor]) -> None:
        """Start an epoch.

        Args:
            epoch: Number of the epoch, from 0, for messages.
            sums: Sums of an interrupted epoch so far, by name.
        """
        self._epoch, self._before, self._sums, self._count = epoch, sums, None, 0

    def add(self, names: tuple[str, ...], values: Tensor, step: int) -> None:
        """Add the terms of a step.

        Args:
            names: Names of the terms, the same in every step.
            values: ``[K]``, of this process; the tensor may be overwritten afterwards.
            step: Number of the step within the training, from 0.

        Raises:
            DivergedError: the loss of one of the steps that are due to be read is not finite.
        """
        if self._sums is None:
            self._names = names
            start = [self._before[name] for name in names] if self._before else None
            self._sums = torch.stack(start).to(values) if start else torch.zeros_like(values)
        if self._every == 1:
            self._sums = self._sums + values
            return
        if self._recent is None:
            self._recent = values.new_zeros(self._every, len(values))
        self._recent[self._count].copy_(values)
        self._count, self._last = self._count + 1, step
        if self._count == self._every:
            self.settle()

    def settle(self) -> None:
        """Read the terms that have not been read yet.

        Raises:
            DivergedError: the loss of one of these steps is not finite.
        """
        if self._recent is None or self._sums is None or not self._count:
            return
        recent = self._recent[: self._count]
        first = self._last - self._count + 1
        self._count = 0
        self._sums = self._sums + recent.sum(0)
        for step, loss in enumerate(recent.sum(1).tolist(), first):
            check_loss(loss, step, self._epoch)

    def sums(self) -> dict[str, Tensor]:
        """Return the sums so far by name, each a scalar.

        Raises:
            DivergedError: see :meth:`settle`.
        """
        self.settle()
        if self._sums is None:
            return dict(self._before)
        return dict(zip(self._names, self._sums.unbind(), strict=True))


def check_loss(loss: float, step: int, epoch: int) -> None:
    """Refuse a loss that is not finite.

    Args:
        loss: Loss of a whole batch.
        step: Number of the step within the training, from 0.
        epoch: The epoch that it belongs to, from 0.

    Raises:
        DivergedError: naming the step.
    """
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss became {loss} at step {step} (epoch {epoch + 1})",
            "Lower `lr` or add `clip_grad` 1, in another `output`; earlier epochs are kept",
        )
