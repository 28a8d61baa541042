"""Stage: fine-tune a distilled student with fake quantisation (quantisation-aware training, QAT)."""

import copy
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
from imf_deploy.distillation.imf_task import ImfTask
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
from imf_deploy.training.trackers import check_monitoring


def qat(
    distilled: Distilled,
    data: DataSet,
    teacher: Teacher,
    config: QatSettings,
    path: Path,
    overwrite: bool = False,
    monitoring: MonitoringSettings = MonitoringSettings(),  # noqa: B008, frozen
) -> DistilledFile:
    """Distil a student further, with the same losses, while its forward pass rounds like an INT8 file.

    Ranges are calibrated first, on training images. A file that the same recipe already made is returned
    unchanged; a training is resumed from a checkpoint next to it, which is removed at the end.

    Args:
        distilled: The distilled student to start from; not changed.
        data: Data that it was distilled on; the test split is not used.
        teacher: Teacher that it was distilled from.
        config: Settings.
        path: Output file; tensors have the same names as in the distilled file.
        overwrite: Whether a file that another recipe made may be replaced.
        monitoring: What is recorded and reported during the training.

    Returns:
        An artifact of the type ``distilled``, whose parent is the distilled file. Its ``history``
        continues that of the file, and ``qat`` holds the results of the tuning.

    Raises:
        UsageError: a setting is out of range, or the data or the teacher differ.
        ImfDeployError: torchao cannot be used, the loss is not finite, or a file cannot be read or written.
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
    graph = copy.deepcopy(distilled.graph).to(device).eval()
    # The layers that replaced the attentive logits were fitted to features that change now.
    graph.imf.make_room(())

    def accuracy(network: torch.nn.Module) -> float | None:
        if not len(data.validation):
            return None
        return accuracy_of(lambda images: network(images)[0], data.validation, data.preprocess, device)

    before = accuracy(graph)
    rounded = FakeQuantizedGraph(graph, distilled.spec.shape).to(device)
    images = choose_images(data.train, min(QuantizeSettings.images, len(data.train)), train.seed)
    rounded.calibrate(images, data.preprocess, device)
    problem, smoothing = data.preprocess.task, train.label_smoothing
    task = ImfTask(rounded, teacher, distilled.teacher_features, train, smoothing, task=problem)
    title = f"Quantisation-aware training of {distilled.spec.name}"
    try:
        # The training is short, so eager steps are sufficient.
        eager = replace(monitoring, cuda_graph=False)
        history = fit(task, data, train, title, checkpoint, settings, overwrite, eager)
        rounded_after = accuracy(rounded)
    finally:
        rounded.remove()
    about = Tuned(config.epochs, train.lr, len(images), before, accuracy(graph), rounded_after)
    later = [{**record, "epoch": record["epoch"] + len(known)} for record in history]

    def finish() -> DistilledFile:
        heads = source.refitted
        if heads:
            # Heads that were fitted to the features before tuning; the student's own head was tuned itself.
            heads = refit_distilled(graph, teacher.logits, data, train, train, plain=False)
        record = source.revised(
            path=path,
            parent=source.sha256,
            recipe=recipe,
            history=[*known, *later],
            refitted=heads,
            qat=about,
            tools=versions(),
        )
        return save_distilled(record, graph, checkpoint)

    return on_first(finish)


def describe_qat(artifact: DistilledFile, allowed: float = Gate.max_accuracy_drop) -> list[str]:
    """Return what readers must know about files with tuned weights, as sentences.

    Args:
        artifact: Result of :func:`qat`.
        allowed: Points of accuracy that a file may lose; a larger loss of QAT in float is reported.
    """
    about = artifact.qat
    if about is None:
        return []
    epochs = f"{about.epochs} epoch{'s' if about.epochs > 1 else ''}"
    tuned = (
        f"All files, including those in float, contain weights that were tuned for INT8 in {epochs} of "
        "quantisation-aware training"
    )
    before, after = about.float_before, about.float_after
    if before is None or after is None:
        return [f"{tuned}; without validation images, the effect is unknown"]
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
        body_lr_factor=1.0,
        keep="last",
    )


def _check_origin(distilled: Distilled, data: DataSet, teacher: Teacher) -> None:
    source = distilled.artifact
    if source.qat:
        raise UsageError(
            f"{source.path} went through QAT before", "Use a file of imf-deploy distill, and more `epochs`"
        )
    if (teacher.sha256, teacher.key) != (source.parent, source.teacher_key):
        raise UsageError(
            f"{source.path} was distilled from another teacher", "Select it with `teacher_weights`"
        )
    if changed := differences(source.teacher, teacher.spec.to_dict()):
        raise UsageError(
            f"{source.path} was distilled from a teacher that was built differently "
            f"(other {', '.join(changed)})",
            "Load the teacher with the settings and strides of the record",
        )
    if data.preprocess != source.preprocess:
        raise UsageError(
            f"{data.name} has other preprocessing or classes than {source.path} was distilled with",
            "Use the data that it was distilled on",
        )
