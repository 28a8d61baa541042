"""Run a file on a split, and compare its answers between batch sizes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from imf_deploy.data import DataSet, Split, eval_batches
from imf_deploy.errors import DeviceError, ImfDeployError
from imf_deploy.export.choice import choose_profile
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.checks import BatchCheck, Rung, Status
from imf_deploy.records.files import DeployableFile, EngineFile
from imf_deploy.runners.base import Batch, Runner
from imf_deploy.runners.engine_facts import why_not_here
from imf_deploy.settings.export import parse_profiles
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
        infer: ``float32 [small, C, H, W]`` -> ``float32 [small, classes]``.
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


BATCH = 100


def runner_logits(runner: Runner, split: Split, preprocess: Preprocess, size: int = BATCH) -> Array:
    """Return the logits of an entered runner on a split, ``float32 [N, classes]``, in order.

    Args:
        runner: Any runner.
        split: Images to run it on.
        preprocess: Preprocessing of the file.
        size: Images in every batch; the last one is padded, because an engine may have a minimum batch.
    """
    outputs = []
    for images, _ in eval_batches(split, preprocess, size):
        full = np.resize(images.numpy(), (size, *images.shape[1:])) if len(images) < size else images.numpy()
        outputs.append(runner.infer(np.ascontiguousarray(full))[: len(images)])
    return np.concatenate(outputs)


def check_sizes(
    runner: Runner, artifact: DeployableFile, logits: Array, data: DataSet, largest: int
) -> BatchCheck | None:
    """Run a few images one at a time if the file accepts that batch and others.

    An engine with several optimisation profiles is run in each, and the first difference is returned.
    """
    if not isinstance(artifact, EngineFile):
        sizes = [1]
    else:
        profiles = parse_profiles(artifact.batch)
        main = choose_profile(profiles, largest)
        sizes = [1] if min(profile.min for profile in profiles) == 1 and largest > 1 else []
        sizes += [profile.opt for index, profile in enumerate(profiles) if index != main and profile.opt > 1]
    checks = [
        check_batches(runner.infer, logits, data.test, data.preprocess, largest, artifact.precision, size)
        for size in sizes
    ]
    return next((check for check in checks if check.reason), checks[0] if checks else None)


def not_run(engine: Path, error: Exception) -> tuple[Status, str]:
    """Return whether an engine failed or had no device, and the reason."""
    message = error.what if isinstance(error, ImfDeployError) else str(error).partition("\n")[0]
    reason = message.replace(str(engine), "it")  # engines with the same reason are reported together
    return ("not-run", why_not_here(engine) or reason) if isinstance(error, DeviceError) else ("fail", reason)


def largest_batch(artifact: DeployableFile) -> int:
    """Return the batch to verify with: the maximum of an engine, or :data:`BATCH`."""
    if not isinstance(artifact, EngineFile):
        return BATCH
    sizes = [max(min(profile.max, BATCH), profile.min) for profile in parse_profiles(artifact.batch)]
    return max((size for size in sizes if size <= BATCH), default=min(sizes))
