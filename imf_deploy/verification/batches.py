"""Whether a network gives the same answer for an image alone and among other images of a batch."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from imf_deploy.data import Split, eval_batches
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.checks import BatchCheck, Rung
from imf_deploy.runners.base import Batch
from imf_deploy.verification.ladder import Array, Tolerance, step

IMAGES = 32
"""Maximum number of images that are run alone."""
# Kernels for another batch compute the same sums in another order. Rounding to 8 or 11 bits occasionally
# turns that into a step; answers that depend on other images differ by much more.
_TOLERANCES = {"fp32": Tolerance(1e-3, 0.999), "fp16": Tolerance(2e-2, 0.9), "int8": Tolerance(5e-2, 0.9)}


def check_batches(
    infer: Callable[[Batch], Array],
    together: Array,
    split: Split,
    preprocess: Preprocess,
    batch: int,
    precision: str,
    small: int = 1,
) -> BatchCheck:
    """Run a few images of a split one at a time, and compare the logits with those of a larger batch.

    The images are spread over the split, because folders are sorted by class, and a batch of one class hides
    dependence on the other images.

    Args:
        infer: ``float32 [small, 3, S, S]`` -> ``float32 [small, classes]``.
        together: Logits of the whole split at the larger batch, ``[N, classes]``.
        split: The images.
        preprocess: Preprocessing of the network.
        batch: Images in the larger batch.
        precision: Precision of the network, which determines the tolerance.
        small: Images in the batches that are compared with the larger one; above 1 each image fills a batch
            by itself.
    """
    positions = np.unique(np.linspace(0, len(split) - 1, IMAGES).round().astype(np.int64))
    chosen = split.subset(torch.from_numpy(positions))
    alone = np.concatenate(
        [
            infer(np.repeat(images.numpy(), small, axis=0))[:1]
            for images, _ in eval_batches(chosen, preprocess, 1)
        ]
    )
    before = together[positions]
    tolerance = _TOLERANCES.get(precision, _TOLERANCES["fp32"])
    rung = step(f"batch {small}", f"batch {batch}", alone, before, tolerance, preprocess.task)
    changed = round(len(alone) - float(preprocess.task.same(alone, before).sum()))
    reason = rung.reason and (
        f"its answers depend on the {'other images' if small == 1 else 'size'} of the batch: "
        f"{'alone' if small == 1 else f'in a batch of {small}'}, {changed} of {len(alone)} images get "
        f"another class than in a batch of {batch} (largest logit difference {rung.max_abs_diff:.2g})"
    )
    return BatchCheck(
        len(alone),
        batch,
        rung.max_abs_diff or 0.0,
        rung.tolerance or 0.0,
        rung.agreement or 0.0,
        reason,
        small,
    )


def with_batches(rung: Rung, check: BatchCheck | None) -> Rung:
    """Return a rung that also fails if the answers of its network depend on the batch."""
    if check is None or not check.reason:
        return rung
    reason = f"{rung.reason}; {check.reason}" if rung.reason else check.reason
    return replace(rung, status="fail", reason=reason)
