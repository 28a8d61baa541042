"""Stage: train a classifier by cross-entropy only."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imf_deploy.artifact import claim
from imf_deploy.data import DataSet
from imf_deploy.data.evaluate import accuracy_of
from imf_deploy.files import fingerprint, finite, sha256_file
from imf_deploy.models import (
    ModelSpec,
    Pretrained,
    build_model,
    check_behaviour,
    only_logits,
    recipe_of,
    save_weights,
)
from imf_deploy.records.files import TeacherFile
from imf_deploy.settings import MonitoringSettings, TrainingSettings
from imf_deploy.tasks.classification import CLASSIFICATION
from imf_deploy.tasks.task import Task
from imf_deploy.training.checkpoint import check_finite
from imf_deploy.training.device import choose_device
from imf_deploy.training.distributed import on_first
from imf_deploy.training.loop import fit
from imf_deploy.training.optimizer import scaled_rate
from imf_deploy.training.trackers import check_monitoring


class Supervised:
    """Cross-entropy on the labels, for :func:`imf_deploy.training.loop.fit`.

    Args:
        module: ``[N, C, H, W]`` -> logits ``[N, classes]``.
        label_smoothing: Label smoothing of the cross-entropy.
        task: Task that defines the loss.
    """

    progress: float | Tensor = 0.0

    def __init__(self, module: nn.Module, label_smoothing: float, task: Task = CLASSIFICATION) -> None:
        self.module = self.network = module
        self._task = task
        self._label_smoothing = label_smoothing

    def targets(self, parts: Sequence[Tensor]) -> Sequence[Any]:
        """Return no targets: there is no teacher."""
        return [None] * len(parts)

    def losses(self, network: nn.Module, images: Tensor, labels: Tensor, _target: Any) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        return {"cross_entropy": self.supervised(only_logits(self.module, network(images)), labels)}

    def supervised(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the task's loss of logits on labels; see :meth:`imf_deploy.tasks.task.Task.loss`."""
        return self._task.loss(logits, labels, self._label_smoothing)

    def predict(self, images: Tensor) -> Tensor:
        """Return the logits ``[N, classes]``."""
        return only_logits(self.module, self.module(images))


def build_started(spec: ModelSpec, start: Pretrained | None) -> nn.Module:
    """Build a network with the weights that it starts from, and refuse one that could not be deployed.

    Raises:
        UsageError: there is no such network, or no file could reproduce its answers.
        ImfDeployError: the network or the weights cannot be used.
    """
    network = build_model(spec)
    if start:
        start.load(network)
    check_behaviour(network, spec.image_size, spec.name)
    return network


def train_classifier(
    spec: ModelSpec,
    data: DataSet,
    config: TrainingSettings,
    path: Path,
    kind: str,
    overwrite: bool = False,
    monitoring: MonitoringSettings = MonitoringSettings(),  # noqa: B008, frozen
    start: Pretrained | None = None,
) -> TeacherFile:
    """Train a network by cross-entropy only, and write its weights.

    A file that the same recipe already made is returned unchanged; a training is resumed from a checkpoint
    next to it, which is removed at the end. If there are several processes, all call this, and the first one
    writes.

    Args:
        spec: Architecture of the network.
        data: Training, validation and test splits.
        config: Settings.
        path: Output file.
        kind: What the network is called in messages.
        overwrite: Whether a file that another recipe made may be replaced.
        monitoring: What is recorded and reported during the training.
        start: Weights that the network starts from; ``None`` starts with fresh ones.

    Returns:
        The record of the file, with its accuracy on the test split.
    """
    check_monitoring(monitoring)
    config = scaled_rate(config)
    settings = {
        "kind": kind,
        "model": recipe_of(spec),
        "data": data.fingerprint,
        "config": asdict(config),
        **({"start": start.identity} if start else {}),
    }
    recipe = fingerprint(settings)
    checkpoint = path.with_suffix(".checkpoint")
    if made := on_first(lambda: claim(TeacherFile, path, recipe, overwrite, checkpoint)):
        return made
    torch.manual_seed(config.seed)
    task = Supervised(build_started(spec, start), config.label_smoothing, data.preprocess.task)
    title = f"Training {kind} {spec.name}"
    history = fit(task, data, config, title, checkpoint, settings, overwrite, monitoring)

    def write() -> TeacherFile:
        check_finite(task.module.state_dict(), "at the end")
        accuracy = accuracy_of(task.predict, data.test, data.preprocess, choose_device(config.device))
        save_weights(path, task.module.state_dict())
        artifact = TeacherFile(
            path=path,
            sha256=sha256_file(path),
            parent=start.origin.sha256 if start else "",
            recipe=recipe,
            model=spec.to_dict(),
            preprocess=data.preprocess,
            history=history,
            accuracy=accuracy,
            data=data.name,
            images=len(data.train),
            config=finite(asdict(config)),
            starting_weights=start.origin if start else None,
        ).save()
        checkpoint.unlink(missing_ok=True)
        return artifact

    return on_first(write)
