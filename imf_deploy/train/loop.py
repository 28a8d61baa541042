"""The training loop, one for every kind of training, with a checkpoint after each epoch."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from imf_deploy.data import Augment, DataSet, train_batches
from imf_deploy.data.batches import train_batch_count
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.evaluate import top1
from imf_deploy.files import write_bytes
from imf_deploy.progress import say, track
from imf_deploy.train.config import TrainConfig, choose_device

History = list[dict[str, float]]


class Task(Protocol):
    """What is trained, and by which loss."""

    module: nn.Module
    """Everything that is trained; its ``state_dict`` is the checkpoint."""

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms of the loss for one batch; their sum is minimised."""

    def predict(self, images: Tensor) -> Tensor:
        """Return the logits by which validation accuracy is measured."""


def fit(
    task: Task,
    data: DataSet,
    config: TrainConfig,
    title: str,
    checkpoint: Path,
    recipe: str,
    overwrite: bool = False,
) -> History:
    """Train ``task.module`` in place; go on from ``checkpoint`` if it belongs to ``recipe``.

    Order, augmentation and dropout follow from the seed and the epoch, so a run that was killed
    and started again ends with the same weights as one that was left alone (same device and
    number of threads).

    Args:
        task: What to train. Its module is moved to the device.
        data: Training and validation splits; the test split is not touched.
        config: Settings.
        title: What the progress bar says.
        checkpoint: Written after every epoch.
        recipe: Hash of everything that decides the result.
        overwrite: Whether a checkpoint of another recipe may be replaced.

    Returns:
        One record an epoch: every loss term, ``lr`` and ``validation_accuracy``.

    Raises:
        UsageError: the checkpoint belongs to another recipe.
        ImfDeployError: the loss is not finite; the last checkpoint is kept.
    """
    device = choose_device(config.device)
    module = task.module.to(device)
    optimizer = torch.optim.SGD(
        module.parameters(),
        lr=config.lr,
        momentum=0.9,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )
    history, first = _restore(checkpoint, recipe, module, optimizer, overwrite)
    if first:
        say(f"{title}: going on after epoch {first} of {config.epochs}")
    per_epoch = train_batch_count(data.train, config.batch_size)
    augment = Augment.named(config.augment, data.preprocess.size, config.flip, config.shift)
    with track(title, per_epoch * config.epochs) as advance:
        advance(per_epoch * first)
        for epoch in range(first, config.epochs):
            torch.manual_seed(config.seed * 1_000_003 + epoch)
            module.train()
            sums: dict[str, Tensor] = {}
            batches = train_batches(
                data.train, data.preprocess, config.batch_size, augment, config.seed, epoch
            )
            for index, (images, labels) in enumerate(batches):
                step = epoch * per_epoch + index
                optimizer.param_groups[0]["lr"] = config.learning_rate(step, per_epoch * config.epochs)
                with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                    terms = task.losses(images.to(device), labels.to(device))
                loss = torch.stack(list(terms.values())).sum()
                if not math.isfinite(loss.item()):
                    raise ImfDeployError(
                        f"the loss became {loss.item()} at step {step} (epoch {epoch + 1})",
                        "Lower --lr and start over in another --output; earlier epochs are kept",
                    )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                for name, term in terms.items():
                    sums[name] = sums.get(name, 0.0) + term.detach()
                advance(1)
            record = {name: float(total) / per_epoch for name, total in sums.items()}
            record |= {"epoch": epoch + 1, "lr": optimizer.param_groups[0]["lr"]}
            if len(data.validation):
                module.eval()
                record["validation_accuracy"] = top1(task.predict, data.validation, data.preprocess, device)
            history.append(record)
            say(f"{title}: " + _summary(record, config.epochs))
            _save(checkpoint, recipe, module, optimizer, history)
    module.eval()
    return history


def _summary(record: dict[str, float], epochs: int) -> str:
    terms = (f"{k} {v:.3f}" for k, v in record.items() if k not in ("epoch", "lr", "validation_accuracy"))
    accuracy = record.get("validation_accuracy")
    end = "" if accuracy is None else f", validation {accuracy:.2%}"
    return f"epoch {record['epoch']:.0f} of {epochs}: {', '.join(terms)}{end}"


def _save(
    path: Path, recipe: str, module: nn.Module, optimizer: torch.optim.Optimizer, history: History
) -> None:
    content = io.BytesIO()
    torch.save(
        {
            "recipe": recipe,
            "module": module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "history": history,
        },
        content,
    )
    # torch's own file writer hides a full disk behind a RuntimeError.
    write_bytes(path, content.getvalue())


def _restore(
    path: Path, recipe: str, module: nn.Module, optimizer: torch.optim.Optimizer, overwrite: bool
) -> tuple[History, int]:
    """Load a checkpoint of the same recipe; another's is refused, or left to be overwritten."""
    if not path.is_file():
        return [], 0
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken file provokes
        raise ImfDeployError(f"the checkpoint {path} is damaged", "Delete it and run again") from error
    if state.get("recipe") != recipe:
        if overwrite:
            return [], 0
        raise UsageError(
            f"{path} is an unfinished training with other settings",
            "Give the same settings, another --output, or --overwrite",
        )
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    history: History = state["history"]
    return history, len(history)
