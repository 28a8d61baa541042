"""Run a file for verification: choose batches and images, and report why it could not be run."""

from pathlib import Path

import numpy as np

from imf_deploy.data import DataSet, Split, eval_batches
from imf_deploy.errors import DeviceError, ImfDeployError
from imf_deploy.export.targets import choose_profile
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.checks import BatchCheck, Status
from imf_deploy.records.files import DeployableFile, EngineFile
from imf_deploy.runners.base import Runner
from imf_deploy.runners.engine_facts import why_not_here
from imf_deploy.settings.export import parse_profiles
from imf_deploy.verification.batches import check_batches
from imf_deploy.verification.ladder import Array

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
