"""A teacher's logits for the last batches of a training, kept in memory."""

import hashlib

import torch
from torch import Tensor


class RecentLogits:
    """Logits of a frozen teacher for the batches that the heads are re-fitted on (ours).

    A batch is found by its pixels, and only as a whole: a teacher that runs it again rounds in the same way.
    The result therefore does not depend on whether a batch was kept.

    Args:
        since: Fraction of the training after which batches are kept, from 0 to 1.
        limit: Maximum number of logits to keep.
    """

    def __init__(self, since: float, limit: int) -> None:
        self._since = since
        self._room = limit
        self._kept: dict[bytes, Tensor] = {}

    def keep(self, progress: float | Tensor, images: Tensor, logits: Tensor) -> None:
        """Keep the logits of a batch.

        Args:
            progress: Finished fraction of the training. If it is a tensor, steps are not run by Python, and
                nothing is kept.
            images: ``[N, C, H, W]``. They are read, so nothing is kept unless they are on a CPU.
            logits: ``[N, classes]``.
        """
        wanted = not isinstance(progress, Tensor) and progress >= self._since
        if wanted and images.device.type == "cpu" and logits.numel() <= self._room:
            self._room -= logits.numel()
            self._kept[_pixels(images)] = logits

    def take(self, images: Tensor) -> Tensor | None:
        """Return the logits of a batch and forget them; ``None`` if they were not kept."""
        usable = self._kept and images.device.type == "cpu"
        return self._kept.pop(_pixels(images), None) if usable else None


def _pixels(images: Tensor) -> bytes:
    """Return a hash of a batch; its pixels are read in the order of the channels-last format."""
    pixels = images.detach().permute(0, 2, 3, 1).contiguous()
    # Flat, because the last dimension of a single channel may have any stride.
    return hashlib.sha256(pixels.flatten().view(torch.uint8).numpy().data).digest()
