"""Stage: fine-tune a distilled student with fake quantisation (quantisation-aware training, QAT)."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch

from imf_deploy.artifact import claim
from imf_deploy.calib.fake_quantize import FakeQuantizedGraph, require_torchao
from imf_deploy.compat import versions
from imf_deploy.data import DataSet
from imf_deploy.data.choice import choose_images
from imf_deploy.data.evaluate import accuracy_of
from imf_deploy.distillation.distill import Distilled, recorded_settings, save_distilled
from imf_deploy.distillation.imf_task import ImfTask, training_graph
from imf_deploy.distillation.refit import refit_distilled
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import differences, fingerprint
from imf_deploy.records.files import DistilledFile
from imf_deploy.records.making import Tuned
from imf_deploy.settings import (
    DistillSettings,
    Gate,
    MonitoringSettings,
    QatSettings,
    QuantizeSettings,
    TrainingSettings,
)
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training.device import choose_device
from imf_deploy.training.distributed import on_first
from imf_deploy.training.loop import fit
from imf_deploy.training.tensorboard import check_monitoring


def qat(
    distilled: Distilled,
    data: DataSet,
    teacher: Teacher,
    config: QatSettings,
    path: Path,
    overwrite: bool = False,
    monitoring: MonitoringSettings = MonitoringSettings(),  # noqa: B008, frozen
) -> DistilledFile:
    """Distil a student further, by the same losses, while its forward pass rounds like an INT8 file.

    Ranges are calibrated first, on training images. A file that the same recipe made before is taken
    as it is; a checkpoint beside it is gone on from, and removed at the end.

    Args:
        distilled: What to start from; not changed.
        data: That it was distilled on; the test split is not touched.
        teacher: That it was distilled from.
        config: Settings.
        path: Where to write; tensors have the names that they have in the distilled file.
        overwrite: Whether a file that another recipe made may be replaced.
        monitoring: What is kept and told meanwhile.

    Returns:
        An artifact of the kind ``distilled``, whose parent is the distilled file. Its ``history`` goes
        on from that file's, and ``qat`` holds what the tuning did.

    Raises:
        UsageError: a setting out of range, other data, or another teacher.
        ImfDeployError: torchao cannot be used, the loss is not finite, or a file problem.
    """
    require_torchao()
    check_monitoring(monitoring)
    source = distilled.artifact
    train = _settings(distilled, config)
    _check_origin(distilled, data, teacher)
    known = source.history
    settings = {
        "kind": "qat",
        "distilled": source.sha256,
        "data": data.fingerprint,
        "teacher": teacher.identity,
        "config": asdict(train),
    }
    recipe = fingerprint(settings)
    checkpoint = path.with_suffix(".checkpoint")
    if made := on_first(lambda: claim(DistilledFile, path, recipe, overwrite, checkpoint)):
        return made
    device = choose_device(train.device)
    graph, _, _ = training_graph(distilled.spec, distilled.teacher_features, distilled.design)
    # What took the place of the attentive logits was fitted to features that change now.
    state = distilled.graph.state_dict().items()
    graph.load_state_dict({name: t for name, t in state if not name.startswith("imf.prefix_heads.")})
    graph.to(device).eval()

    def accuracy(network: torch.nn.Module) -> float | None:
        if not len(data.validation):
            return None
        return accuracy_of(lambda images: network(images)[0], data.validation, data.preprocess, device)

    before = accuracy(graph)
    rounded = FakeQuantizedGraph(graph, distilled.spec.image_size).to(device)
    images = choose_images(data.train, min(QuantizeSettings.images, len(data.train)), train.seed)
    rounded.calibrate(images, data.preprocess, device)
    task = ImfTask(rounded, teacher, distilled.teacher_features, train, train.label_smoothing)
    title = f"Quantisation-aware training of {distilled.spec.name}"
    try:
        # It is short: an eager step does.
        eager = replace(monitoring, cuda_graph=False)
        history = fit(task, data, train, title, checkpoint, settings, overwrite, eager)
        rounded_after = accuracy(rounded)
    finally:
        rounded.remove()
    about = Tuned(config.epochs, train.lr, len(images), before, accuracy(graph), rounded_after)
    later = [{**record, "epoch": record["epoch"] + len(known)} for record in history]

    def finish() -> DistilledFile:
        fields = dict(source) | {"history": [*known, *later], "qat": about, "tools": versions()}
        if source.refitted:
            # What was fitted to features of before the tuning; the student's own head was tuned itself.
            fields["refitted"] = refit_distilled(graph, teacher.logits, data, train, train, plain=False)
        fields |= {"parent": source.sha256, "recipe": recipe}
        return save_distilled(path, graph, checkpoint, **fields)

    return on_first(finish)


def describe_qat(artifact: DistilledFile, allowed: float = Gate.max_accuracy_drop) -> list[str]:
    """Return what a reader has to know of files whose weights were tuned, as sentences.

    Args:
        artifact: As :func:`qat` gives it.
        allowed: Points of accuracy that a file may lose; what more QAT cost in float is told.
    """
    about = artifact.qat
    if about is None:
        return []
    epochs = f"{about.epochs} epoch{'s' if about.epochs > 1 else ''}"
    tuned = (
        f"All files, also those in float, hold weights that were tuned for INT8 in {epochs} of "
        "quantisation-aware training"
    )
    before, after = about.float_before, about.float_after
    if before is None or after is None:
        return [f"{tuned}; without validation images nothing says what that did to them"]
    sentences = [
        f"{tuned}: on validation images the student has {after:.2%} in float and "
        f"{about.rounded_after:.2%} with fake quantisation; before it had {before:.2%} in float"
    ]
    drop = (before - after) * 100
    if drop > allowed:
        sentences.append(
            f"Quantisation-aware training cost the float student {drop:.2f} points of validation accuracy, "
            f"more than the {allowed:g} that a file may lose, and gates compare INT8 with the tuned student: "
            "try without it"
        )
    return sentences


def _settings(distilled: Distilled, config: QatSettings) -> DistillSettings:
    """Return the distillation's settings with the changes that :class:`QatSettings` describes."""
    try:
        known = recorded_settings(distilled.artifact)
    except ImfDeployError as error:
        raise ImfDeployError(
            f"the record of {distilled.artifact.path} is damaged ({error})", "Distil again"
        ) from error
    return replace(
        known,
        epochs=config.epochs,
        lr=known.largest_lr * config.lr_factor,
        lr_base_size=0,
        device=config.device,
        lr_schedule="cosine",
        warmup=TrainingSettings.warmup,
        mixup=0.0,
        cutmix=0.0,
        ema=0.0,
        keep="last",
    )


def _check_origin(distilled: Distilled, data: DataSet, teacher: Teacher) -> None:
    source = distilled.artifact
    if source.qat:
        raise UsageError(
            f"{source.path} went through QAT before", "Give what imf-deploy distill wrote, and more --epochs"
        )
    if (teacher.sha256, teacher.key) != (source.parent, source.teacher_key):
        raise UsageError(
            f"{source.path} was distilled from another teacher", "Give that one with --teacher-weights"
        )
    if changed := differences(source.teacher, teacher.spec.to_dict()):
        raise UsageError(
            f"{source.path} was distilled from a teacher that was built in another way "
            f"(other {', '.join(changed)})",
            "Load the teacher with the settings and strides of the record",
        )
    if data.preprocess != source.preprocess:
        raise UsageError(
            f"{data.name} has other preprocessing or classes than {source.path} was distilled on",
            "Give the data that it was distilled on",
        )
