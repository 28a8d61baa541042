"""Stage: train a teacher by cross-entropy, load a given one, or take the packaged one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imf_deploy import defaults
from imf_deploy.artifact import Artifact, claim, describe, load_artifact, sidecar_path
from imf_deploy.data import DataSet
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.evaluate import top1
from imf_deploy.files import differences, fingerprint, sha256_file
from imf_deploy.method.branches import Taps
from imf_deploy.models import (
    SMALL_IMAGE,
    ModelSpec,
    build_model,
    load_weights,
    only_logits,
    read_weights,
    resolve,
    save_weights,
)
from imf_deploy.preprocess import Preprocess
from imf_deploy.train.checkpoint import History, check_finite
from imf_deploy.train.config import Monitoring, TrainConfig, choose_device
from imf_deploy.train.distributed import on_first
from imf_deploy.train.loop import fit
from imf_deploy.train.teacher_memory import TeacherMemory

TEACHER_TRAINING = TrainConfig(defaults.TEACHER_EPOCHS, defaults.TEACHER_BATCH_SIZE, defaults.TEACHER_LR)
PACKAGED = "fashion_mnist_resnet14x2.safetensors"


@dataclass(frozen=True)
class TeacherConfig:
    """Which teacher, and how it is trained.

    Attributes:
        model: Name of the architecture; empty chooses by the size of the images.
        train: Settings of the training.
    """

    model: str = ""
    train: TrainConfig = TEACHER_TRAINING


class Supervised:
    """Cross-entropy on the labels, for :func:`imf_deploy.train.loop.fit`.

    Args:
        module: ``[N, 3, S, S]`` -> logits ``[N, classes]``.
        label_smoothing: Of the labels.
    """

    progress = 0.0

    def __init__(self, module: nn.Module, label_smoothing: float) -> None:
        self.module = module
        self._label_smoothing = label_smoothing

    def targets(self, parts: Sequence[Tensor]) -> Sequence[Any]:
        """Ask nobody."""
        return [None] * len(parts)

    def losses(self, network: nn.Module, images: Tensor, labels: Tensor, _target: Any) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        return {"cross_entropy": self.supervised(only_logits(self.module, network(images)), labels)}

    def supervised(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of logits ``[N, classes]`` on ``int64 [N]``, or on probabilities."""
        return nn.functional.cross_entropy(logits.float(), labels, label_smoothing=self._label_smoothing)

    def predict(self, images: Tensor) -> Tensor:
        """Return the logits ``[N, classes]``."""
        return only_logits(self.module, self.module(images))


def train_classifier(
    spec: ModelSpec,
    data: DataSet,
    config: TrainConfig,
    path: Path,
    kind: str,
    overwrite: bool = False,
    monitoring: Monitoring = Monitoring(),  # noqa: B008, frozen
) -> Artifact:
    """Train a network by cross-entropy alone and write its weights.

    A file that the same recipe made before is taken as it is; a checkpoint beside it is gone on
    from, and removed at the end. Of several processes all call this, and the first one writes.

    Returns:
        The artifact; its evidence holds ``history`` and, on the test split, ``accuracy``.
    """
    config.check()
    monitoring.check()
    settings = {"kind": kind, "model": spec.to_dict(), "data": data.fingerprint, "config": asdict(config)}
    recipe = fingerprint(settings)
    checkpoint = path.with_suffix(".checkpoint")
    if made := on_first(lambda: claim(path, recipe, overwrite, checkpoint)):
        return made
    torch.manual_seed(config.seed)
    task = Supervised(build_model(spec), config.label_smoothing)
    title = f"Training {kind} {spec.name}"
    history = fit(task, data, config, title, checkpoint, settings, overwrite, monitoring)

    def write() -> Artifact:
        check_finite(task.module.state_dict(), "at the end")
        accuracy = top1(task.predict, data.test, data.preprocess, choose_device(config.device))
        save_weights(path, task.module.state_dict())
        artifact = describe(
            path,
            kind=kind,
            format="safetensors",
            parent="",
            recipe=recipe,
            model=spec.to_dict(),
            preprocess=data.preprocess,
            evidence={"history": history, "accuracy": accuracy, "data": data.name, "images": len(data.train)},
        ).save()
        checkpoint.unlink(missing_ok=True)
        return artifact

    return on_first(write)


def train_teacher(
    data: DataSet,
    config: TeacherConfig,
    path: Path,
    overwrite: bool = False,
    monitoring: Monitoring = Monitoring(),  # noqa: B008, frozen
) -> Artifact:
    """Train a teacher on a data set; see :func:`train_classifier`."""
    spec = ModelSpec.for_images(
        config.model or default_teacher(data), data.preprocess.num_classes, data.preprocess.size
    )
    return train_classifier(spec, data, config.train, path, "teacher", overwrite, monitoring)


@dataclass(frozen=True)
class Teacher:
    """A trained teacher: evaluation mode, no gradients.

    Attributes:
        module: ``[N, 3, S, S]`` -> logits.
        spec: Its architecture.
        sha256: Hash of its weights file.
        accuracy: On the test split of the data at hand, from 0 to 1.
        history: One record an epoch of its training, where its sidecar has them.
        memory: What it said to other trainings, if they share that.
    """

    module: nn.Module
    spec: ModelSpec
    sha256: str
    accuracy: float
    history: History = field(default_factory=list)
    memory: TeacherMemory | None = None

    def logits(self, images: Tensor) -> Tensor:
        """Return its logits ``[N, classes]`` of images ``[N, 3, S, S]``."""

        def look() -> list[Tensor]:
            return [only_logits(self.module, self.module(images))]

        (logits,) = self.memory.get(images, ["logits"], look) if self.memory else look()
        return logits

    def look(self, images: Tensor, taps: Taps) -> list[Tensor]:
        """Return its logits and what ``taps`` on it collect, ``[N, C, H, W]`` each."""

        def look() -> list[Tensor]:
            logits, maps = taps.run(images)
            return [logits, *maps]

        # Maps of several stages are large, and no other training asks for them.
        if self.memory is None or len(taps.names) > 1:
            return look()
        return self.memory.get(images, ["logits", *taps.names], look)


def default_teacher(data: DataSet) -> str:
    """Return the architecture that teaches where none is named (ours)."""
    return "resnet14x2" if data.preprocess.size < SMALL_IMAGE else "resnet50"


def packaged_teacher(model: str, data: DataSet) -> Path | None:
    """Return the weights of the teacher that comes with the package, where it fits.

    Args:
        model: Architecture asked for; empty takes any.
        data: The packaged teacher knows Fashion-MNIST's classes and preprocessing.
    """
    path = Path(str(resources.files("imf_deploy") / "assets" / PACKAGED))
    if not path.is_file():
        return None
    record = load_artifact(path)
    asked = not model or resolve(model) == resolve(record.model["name"])
    return path if asked and record.preprocess == data.preprocess else None


def load_teacher(path: Path, model: str, data: DataSet, device: torch.device) -> Teacher:
    """Load a teacher's weights, strictly, and measure its accuracy on the test split.

    Args:
        path: safetensors, or a ``.pt`` of tensors alone. With a sidecar, the architecture and the
            preprocessing that it records have to fit.
        model: Name of the architecture; empty takes the sidecar's.
        data: The data that it will teach on.
        device: Where it runs.

    Raises:
        ImfDeployError: damaged weights, of another architecture, or for other input or classes.
    """
    tensors = read_weights(path)
    size, classes = data.preprocess.size, data.preprocess.num_classes
    spec = ModelSpec.for_images(model or default_teacher(data), classes, size)
    history: History = []
    if sidecar_path(path).is_file():
        record = load_artifact(path)
        history = _history(record)
        made_for = ModelSpec.from_dict(record.model, (model,), "--teacher")
        if model and resolve(model) != resolve(made_for.name):
            raise ImfDeployError(
                f"{path} holds a {made_for.name}, not a {model}", f"Give --teacher {made_for.name}"
            )
        if record.preprocess != data.preprocess:
            raise ImfDeployError(
                f"the teacher {path} was trained with other preprocessing or classes than {data.name} has "
                f"({_difference(record.preprocess, data.preprocess)})",
                "Train one for this data: imf-deploy train-teacher",
            )
        spec = made_for
    module = build_model(spec)
    load_weights(module, tensors, str(path))
    module = module.to(device).eval().requires_grad_(False)
    accuracy = top1(module, data.test, data.preprocess, device)
    return Teacher(module, spec, sha256_file(path), accuracy, history)


def _history(record: Artifact) -> History:
    """Return the epochs of a sidecar, which may be anybody's; nothing where they are no numbers."""
    history = record.evidence.get("history")
    if not isinstance(history, list) or not all(
        isinstance(epoch, dict) and "epoch" in epoch for epoch in history
    ):
        return []
    numbers = (value for epoch in history for value in epoch.values())
    return history if all(type(value) in (int, float, type(None)) for value in numbers) else []


def _difference(known: Preprocess, wanted: Preprocess) -> str:
    if known.num_classes != wanted.num_classes:
        return f"{known.num_classes} classes for {wanted.num_classes}"
    return "other " + ", ".join(differences(known.to_dict(), wanted.to_dict()))


def weak_teacher(teacher: float, student: float) -> str:
    """Return a warning where a student came out no less accurate than its teacher, else nothing.

    Args:
        teacher: Accuracy from 0 to 1.
        student: The same, after the distillation.
    """
    if student < teacher:
        return ""
    return (
        f"The teacher ({teacher:.2%}) is no better than the student ({student:.2%}): distillation gains "
        "little from it"
    )


def weak_on_validation(distilled: Artifact, teacher: Teacher, data: DataSet) -> str:
    """Return the warning of :func:`weak_teacher`, both measured on the validation images.

    The test split is for what is deployed. Without validation images there is nothing to say.
    """
    reached = distilled.known("history", list)[-1].get("validation_accuracy")
    own = next((each for each in distilled.evidence.get("refitted", []) if each["head"] == "plain"), None)
    if own and own["kept"]:
        reached = own["after"]
    if reached is None:
        return ""
    device = next(teacher.module.parameters()).device
    return weak_teacher(top1(teacher.module, data.validation, data.preprocess, device), reached)


class TeacherNeededError(UsageError):
    """No teacher was given, and the packaged one does not fit the data."""


def find_teacher(weights: str, model: str, data: DataSet, device: str) -> Teacher:
    """Load the given teacher, or the packaged one where it fits the data.

    Args:
        weights: Path of its weights; empty takes the packaged one.
        model: Name of its architecture; empty takes what its sidecar names.
        data: What it will teach on.
        device: Where it runs, as ``--device`` names it.

    Raises:
        TeacherNeededError: there is neither.
        ImfDeployError: the weights do not fit.
    """
    path = Path(weights) if weights else packaged_teacher(model, data)
    if path is None:
        raise TeacherNeededError(
            f"no teacher is given, and the packaged one does not know {data.name}",
            "Train one with imf-deploy train-teacher, then give --teacher-weights",
        )
    return load_teacher(path, model, data, choose_device(device))
