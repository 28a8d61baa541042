"""Run a network on a split, and score its answers."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from imf_deploy.data.batches import Batch, eval_batches
from imf_deploy.data.dataset import Split
from imf_deploy.preprocess import Preprocess
from imf_deploy.progress import track


def logits_of(
    predict: Callable[[Tensor], Tensor],
    split: Split,
    preprocess: Preprocess,
    device: torch.device,
    batches: Iterator[Batch] | None = None,
) -> Tensor:
    """Return ``float32 [N, classes]`` on the CPU, in the order of the split.

    Args:
        predict: ``[B, C, H, W]`` -> logits.
        split: The images.
        preprocess: How they are prepared as input.
        device: Device of the batches.
        batches: The split's batches, from an existing loader; ``None`` reads them from the split.
    """
    outputs = []
    with torch.inference_mode(), track("Evaluating", len(split)) as advance:
        for images, _ in batches or eval_batches(split, preprocess):
            outputs.append(predict(images.to(device)).float().cpu())
            advance(len(images))
    return torch.cat(outputs)


def accuracy_of(
    predict: Callable[[Tensor], Tensor],
    split: Split,
    preprocess: Preprocess,
    device: torch.device,
    batches: Iterator[Batch] | None = None,
) -> float:
    """Return the accuracy of the answers on a split, from 0 to 1, as defined by its task.

    See :func:`logits_of`.
    """
    logits = logits_of(predict, split, preprocess, device, batches)
    return float(preprocess.task.right(logits.numpy(), split.labels.numpy()).mean())
