"""The training loop, one for every kind of training, on any number of processes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imf_deploy.data import DataSet
from imf_deploy.data.augment import Augment
from imf_deploy.data.given import GivenSplit
from imf_deploy.errors import UsageError
from imf_deploy.files import fingerprint, finite
from imf_deploy.processes import is_first, world_size
from imf_deploy.progress import say, track
from imf_deploy.settings import MonitoringSettings, TrainingSettings
from imf_deploy.teacher_memory.outputs import SUFFIX, OutputsFile
from imf_deploy.training import distributed
from imf_deploy.training.capture import why_eager
from imf_deploy.training.checkpoint import History
from imf_deploy.training.cpu_layers import fast_layers
from imf_deploy.training.device import choose_device
from imf_deploy.training.parts import Parts
from imf_deploy.training.speed import Speed
from imf_deploy.training.task import Task, TaughtTask
from imf_deploy.training.trackers import scalars, tracker_names
from imf_deploy.training.training import Training


def check_training(config: TrainingSettings, data: DataSet) -> None:
    """Refuse settings that do not fit a data set, as :func:`fit` does, but before other trainings.

    Args:
        config: Settings.
        data: Training and validation splits, and unlabelled images if they are used.

    Raises:
        UsageError: naming the setting.
    """
    if config.keep == "best" and not len(data.validation):
        raise UsageError("`keep` best needs validation images, but there are none", "Use `keep` last")
    if config.balance != "none" and isinstance(data.train, GivenSplit):
        raise UsageError(
            f"`balance` {config.balance} needs the number of images of each class, which a loader does not "
            "give",
            "Use a data set by name or path, or a sampler in your loader",
        )
    unlabelled = 0 if data.unlabelled is None else len(data.unlabelled)
    images = min(config.batch_size, len(data.train) + unlabelled)
    if images < 2 * world_size() * config.grad_accumulation and world_size() * config.grad_accumulation > 1:
        raise UsageError(
            f"a batch of {images} is too small for {world_size()} process(es) that accumulate "
            f"{config.grad_accumulation} part(s)",
            "Raise `batch_size`: each part needs two images",
        )


def fit(
    task: Task,
    data: DataSet,
    config: TrainingSettings,
    title: str,
    checkpoint: Path | None,
    settings: Mapping[str, Any],
    overwrite: bool = False,
    monitoring: MonitoringSettings = MonitoringSettings(),  # noqa: B008, frozen
) -> History:
    """Train ``task.module`` in place; resume from ``checkpoint`` if it belongs to ``settings``.

    Order, augmentation and dropout depend only on the seed and the epoch, so a run that was killed and
    started again ends with the same weights as an uninterrupted one (same device, processes and number of
    threads).

    Args:
        task: Task to train. Its module is moved to the device.
        data: Training and validation splits; the test split is not used.
        config: Settings.
        title: Title of the progress bar.
        checkpoint: File written after every epoch, and within epochs according to ``monitoring``; ``None``
            writes none.
        settings: Everything that determines the result, as JSON values.
        overwrite: Whether a checkpoint of other settings may be replaced.
        monitoring: What is recorded and reported during the training.

    Returns:
        One record per epoch: every loss term, ``lr`` and ``validation_accuracy``.

    Raises:
        UsageError: the checkpoint belongs to other settings, or a batch is too small to be shared.
        DivergedError: the loss or a weight is not finite; the last checkpoint is kept.
    """
    check_training(config, data)
    images = min(config.batch_size, len(data.train))
    device = choose_device(config.device)
    capture = device.type == "cuda" and monitoring.cuda_graph and not isinstance(data.train, GivenSplit)
    if capture and (why := why_eager(config)):
        capture = False
        say(f"Training steps run without a CUDA graph: {why}")
    kept = isinstance(task, TaughtTask) and not capture and not isinstance(data.train, GivenSplit)
    space = monitoring.teacher_outputs_gb * 1e9 if kept else 0
    place, trackers = checkpoint or Path("imf-deploy"), tracker_names(monitoring)
    with (
        distributed.accelerator(device, config.train_precision, trackers, place.parent) as accelerator,
        fast_layers(task.module, device),
        Parts(task, config, data.preprocess.num_classes).frozen() as parts,
        _kept_outputs(checkpoint, settings, data, config, space) as outputs,
    ):
        training = Training(task, data, config, parts, device, accelerator, outputs, capture)
        done = training.restore(checkpoint, settings, overwrite)
        if done.epoch or done.batch:
            within = f", {done.batch} of {training.per_epoch} steps into the next" if done.batch else ""
            say(f"{title}: resuming after epoch {done.epoch} of {config.epochs}{within}")
        total = training.per_epoch * config.epochs
        with scalars(accelerator, place, done.epoch) as write, track(title, total, leads=True) as advance:
            advance(done.epoch * training.per_epoch + done.batch)
            while done.epoch < config.epochs:
                speed = Speed()
                with speed.watch(device):
                    for due in training.steps(monitoring.checkpoint_minutes):
                        advance(1)
                        speed.count(images)
                        if due:
                            training.save(checkpoint, settings)
                record = training.end_epoch()
                say(f"{title}: {_summary(record, config.epochs)}; {speed.describe()}")
                write(record)
                training.save(checkpoint, settings)
        training.finish()
    return done.history


@contextmanager
def _kept_outputs(
    checkpoint: Path | None,
    settings: Mapping[str, Any],
    data: DataSet,
    config: TrainingSettings,
    limit: float,
) -> Iterator[OutputsFile | None]:
    """Yield the file in which a training stores its teacher's outputs, or ``None`` if that is not worthwhile.

    It is worthwhile if there are more epochs than views of an image, no images are mixed, and one process
    trains: several processes each see other images in each epoch. The file is removed when the training ends,
    and kept if it is interrupted.

    Args:
        checkpoint: Checkpoint of the training; the file is stored next to it, and without one nothing is
            stored.
        settings: Everything that determines the training's result, as JSON values.
        data: Data of the training.
        config: Settings of the training.
        limit: Maximum size of the file in bytes; 0 for none.
    """
    if checkpoint is None:
        yield None
        return
    path, views = checkpoint.with_suffix(SUFFIX), Augment.of(config, data.preprocess.shape).views
    if not limit or not views or views >= config.epochs or config.mixup or config.cutmix or world_size() > 1:
        if is_first():
            path.unlink(missing_ok=True)  # left by another, interrupted training
        yield None
        return
    outputs = OutputsFile(path, fingerprint(finite(settings)), len(data.train) * views, limit)
    try:
        yield outputs
    except BaseException:
        outputs.close()
        raise
    outputs.remove()


def _summary(record: dict[str, float], epochs: int) -> str:
    terms = (f"{k} {v:.3f}" for k, v in record.items() if k not in ("epoch", "lr", "validation_accuracy"))
    accuracy = record.get("validation_accuracy")
    end = "" if accuracy is None else f", validation {accuracy:.2%}"
    return f"epoch {record['epoch']:.0f} of {epochs}: {', '.join(terms)}{end}"
