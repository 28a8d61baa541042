"""One training of a study: from its settings to its accuracies, cached by its settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imf_deploy.artifact import current_artifact
from imf_deploy.data import DataSet, Split, eval_batches
from imf_deploy.distillation.distill import distill, load_distilled
from imf_deploy.distillation.refit import refit_student
from imf_deploy.errors import DivergedError, ImfDeployError
from imf_deploy.files import fingerprint, finite, read_json, sha256_file, write_json
from imf_deploy.method.names import PLAIN, imf
from imf_deploy.method.products import load_product
from imf_deploy.models import ModelSpec, Pretrained, read_pretrained, recipe_of, save_weights
from imf_deploy.records.files import DistilledFile, ProductFile
from imf_deploy.settings import MonitoringSettings, TrainingSettings
from imf_deploy.study.methods import Settings, imf_config, train_config
from imf_deploy.study.results import Trained
from imf_deploy.study.rivals import RIVALS
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training.checkpoint import check_finite
from imf_deploy.training.device import choose_device
from imf_deploy.training.loop import fit

ALIKE = MonitoringSettings(teacher_outputs_gb=0.0)
"""Monitoring of all trainings. A training caches no teacher outputs of its own: their times are compared."""


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        student: Name of the architecture.
        method: A key of :data:`imf_deploy.study.methods.METHODS`.
        settings: The method's own settings.
        train: Settings of the training, including those of the method.
        variant: Name of an ablation or of a cell of the grid; empty for the method itself.
        tested: Whether the test split is used; not if the training only serves to choose settings.
    """

    student: str
    method: str
    settings: Settings
    train: TrainingSettings
    variant: str = ""
    tested: bool = False

    @classmethod
    def of(
        cls,
        student: str,
        method: str,
        settings: Settings,
        base: TrainingSettings,
        variant: str = "",
        tested: bool = False,
    ) -> Run:
        """Combine the shared settings and those of the method."""
        return cls(student, method, settings, train_config(base, settings), variant, tested)

    @property
    def label(self) -> str:
        """Name of the training in messages."""
        return " ".join(filter(None, (self.student, self.method, self.variant, f"seed {self.train.seed}")))

    def start(self, data: DataSet) -> Pretrained | None:
        """Return the weights that the student starts from; ``None`` if it starts fresh."""
        text = self.settings.get("student_weights", "")
        return read_start(text, spec_of(self.student, data), data.preprocess.labels)

    def key(self, data: DataSet, teacher: Teacher) -> dict[str, Any]:
        """Return everything that decides the result, except the number of threads."""
        start = self.start(data)
        return {
            **({"start": start.identity} if start else {}),
            "student": _recipe_of(spec_of(self.student, data)),
            "method": self.method,
            "settings": dict(self.settings) | _effective(self),
            "train": finite(asdict(self.train)),
            "data": data.fingerprint,
            "teacher": "" if self.method == "ce" else teacher.identity,
        }


@cache
def read_start(text: str, spec: ModelSpec, labels: tuple[str, ...]) -> Pretrained | None:
    """Read the weights that a student starts from; ``None`` if ``text`` is empty. They are kept in memory.

    Raises:
        UsageError: there are no such weights.
        ImfDeployError: they do not fit.
    """
    return read_pretrained(text, spec, labels) if text else None


@cache
def _recipe_of(spec: ModelSpec) -> dict[str, Any]:
    # A study asks for it many times; a change of a user's function counts from the next command on.
    return recipe_of(spec)


def _effective(run: Run) -> dict[str, Any]:
    """Return IMF's settings including the defaults, which may change in later versions."""
    if run.method != "imf":
        return {}
    config = imf_config(run.student, run.train, run.settings)
    return {name: value for name, value in finite(asdict(config)).items() if name not in vars(run.train)}


def record_path(run: Run, data: DataSet, teacher: Teacher, folder: Path) -> Path:
    """Return the path of a training's record; its weights are beside it."""
    key = fingerprint(run.key(data, teacher))[:12]
    stem = spec_of(run.student, data).stem
    return folder / f"{stem}-{run.method}-seed{run.train.seed}-{key}.result.json"


def spec_of(student: str, data: DataSet) -> ModelSpec:
    """Return the architecture of a student for a data set."""
    return ModelSpec.for_images(student, data.preprocess.num_classes, data.preprocess.shape)


def train(run: Run, data: DataSet, teacher: Teacher, folder: Path) -> Trained:
    """Run a training, resume an interrupted one, or return the result of a finished one.

    A training that diverges has no accuracies. If it is to be tested, divergence is an error, because leaving
    it out would mean to choose seeds.

    Args:
        run: The training.
        data: Data, the same for all trainings of a study.
        teacher: Teacher, the same for all trainings of a study.
        folder: Folder that keeps weights and records.

    Raises:
        UsageError: an unknown student, or a setting out of range.
        DivergedError: the loss of a training that is tested is not finite.
        ImfDeployError: a file problem.
    """
    if done := finished(run, data, teacher, folder):
        return done
    path = record_path(run, data, teacher, folder)
    known = _read_record(path) if path.is_file() else None
    try:
        record = _record(run, data, teacher, path, known)
    except DivergedError as error:
        if run.tested:
            raise
        weights_path(path).with_suffix(".checkpoint").unlink(missing_ok=True)
        nothing: dict[str, Any] = {"validation": {}, "test": {}, "cpu_seconds": None}
        record = {"settings": run.key(data, teacher), **nothing, "diverged": error.what}
    write_json(path, record)
    return _trained(run, record)


def finished(run: Run, data: DataSet, teacher: Teacher, folder: Path) -> Trained | None:
    """Return the result of a training that was finished before, and tested if this one is.

    Raises:
        ImfDeployError: the record is damaged.
    """
    path = record_path(run, data, teacher, folder)
    known = _read_record(path) if path.is_file() else None
    return None if known is None or (run.tested and not known["test"]) else _trained(run, known)


def _trained(run: Run, known: dict[str, Any]) -> Trained:
    return Trained(
        run.student,
        run.method,
        run.variant,
        run.train.seed,
        run.train.epochs,
        known["validation"],
        known["test"] if run.tested else {},
        known["cpu_seconds"],
        known["settings"],
    )


def _read_record(path: Path) -> dict[str, Any]:
    """Read a record of :func:`train`.

    Raises:
        ImfDeployError: the record is damaged.
    """
    record = read_json(path)
    seconds, settings = record.get("cpu_seconds", ""), record.get("settings")
    fine = isinstance(settings, dict) and (seconds is None or isinstance(seconds, int | float))
    for name in ("validation", "test"):
        values = record.get(name)
        fine = fine and isinstance(values, dict) and all(isinstance(v, int | float) for v in values.values())
    if not fine:
        raise ImfDeployError(f"{path} is damaged", "Remove it, and run the same command again")
    return record


def weights_path(record: Path) -> Path:
    """Return the path of a training's weights."""
    return record.with_name(record.name.replace(".result.json", ".safetensors"))


def _record(
    run: Run, data: DataSet, teacher: Teacher, path: Path, known: dict[str, Any] | None
) -> dict[str, Any]:
    weights = weights_path(path)
    # The time of an interrupted training is incomplete, and on a GPU the processor time says little.
    begins = known is None and not weights.with_suffix(".checkpoint").exists() and not weights.exists()
    whole = begins and choose_device(run.train.device).type == "cpu"
    started = _clock(teacher)
    if run.method == "imf":
        config = imf_config(run.student, run.train, run.settings)
        # The study has checked its students, and the check is not part of a training's time.
        artifact: DistilledFile | ProductFile = distill(
            data, teacher, config, weights, monitoring=ALIKE, checked=True
        )
    else:
        artifact = train_rival(run, data, teacher, weights)
    seconds = _clock(teacher) - started if whole else None
    predict = _predictor(run, artifact)
    return {
        "settings": run.key(data, teacher),
        "validation": accuracies(predict, data.validation, data) if len(data.validation) else {},
        "test": accuracies(predict, data.test, data) if run.tested else {},
        "cpu_seconds": known["cpu_seconds"] if known else seconds,
    }


def _clock(teacher: Teacher) -> float:
    """Return the processor time in seconds, as if each training had run the teacher itself."""
    return time.process_time() + (teacher.memory.spared if teacher.memory else 0.0)


def train_rival(run: Run, data: DataSet, teacher: Teacher, path: Path) -> ProductFile:
    """Train a student by one of :data:`imf_deploy.study.rivals.RIVALS` and write it as the product ``plain``.

    Returns:
        The record, which :func:`imf_deploy.method.products.load_product` reads.
    """
    settings = run.key(data, teacher)
    if made := current_artifact(path, fingerprint(settings), ProductFile):
        return made
    spec = spec_of(run.student, data)
    torch.manual_seed(run.train.seed)
    smoothing = {"label_smoothing": run.train.label_smoothing}
    task = RIVALS[run.method](spec, teacher, smoothing | dict(run.settings))
    start = run.start(data)
    if start:
        start.load(task.student)
    checkpoint = path.with_suffix(".checkpoint")
    history = fit(task, data, run.train, f"{run.method} {spec.name}", checkpoint, settings)
    device = choose_device(run.train.device)
    heads = refit_student(task.student, teacher.logits, data, run.train, task.head_loss, device)
    check_finite(task.student.state_dict(), "at the end")
    save_weights(path, task.student.state_dict())
    artifact = ProductFile(
        path=path,
        sha256=sha256_file(path),
        parent=teacher.sha256,
        recipe=fingerprint(settings),
        model=spec.to_dict(),
        preprocess=data.preprocess,
        product=PLAIN,
        starting_weights=start.origin if start else None,
        history=history,
        refitted=heads,
        data=data.name,
        data_config=data.config,
    ).save()
    checkpoint.unlink(missing_ok=True)
    return artifact


def _predictor(run: Run, artifact: DistilledFile | ProductFile) -> Callable[[Tensor], dict[str, Tensor]]:
    """Return a function that computes the logits of every product for a batch."""
    trusted = (run.student,)
    if isinstance(artifact, ProductFile):
        network = load_product(artifact.path, trusted).module
        return lambda images: {PLAIN: network(images)}
    graph = load_distilled(artifact, trusted).graph

    def predict(images: Tensor) -> dict[str, Tensor]:
        own, branches = graph(images)
        return {PLAIN: own} | {
            imf(k): logits for k, logits in enumerate(branches.attentive[: graph.imf.members], 1)
        }

    return predict


def accuracies(
    predict: Callable[[Tensor], dict[str, Tensor]], split: Split, data: DataSet
) -> dict[str, float]:
    """Return the accuracy of each product on a split, from 0 to 1."""
    right: dict[str, int] = {}
    with torch.inference_mode():
        for images, labels in eval_batches(split, data.preprocess):
            for name, logits in predict(images).items():
                right[name] = right.get(name, 0) + int((logits.argmax(1) == labels).sum())
    return {name: count / len(split) for name, count in right.items()}
