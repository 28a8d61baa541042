"""Checkpoints: all that determines the rest of a training, in one safetensors file, written atomically."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field
from safetensors import SafetensorError, safe_open
from torch import Tensor

from imf_deploy.errors import DivergedError, ImfDeployError, UsageError
from imf_deploy.files import differences, finite
from imf_deploy.forms import STRICT, Number, from_json
from imf_deploy.models import not_finite, save_weights
from imf_deploy.records.making import Epoch
from imf_deploy.untrusted import parse_object

History = list[Epoch]
_KEY = "imf-deploy-checkpoint"
_SCHEMA = 2
_FREE = {"lr", "fused", "foreach", "capturable"}
"""Settings of an optimiser that depend on its device or step."""


class _Optimizer(BaseModel):
    model_config = STRICT

    param_groups: list[dict[str, Any]]
    state: dict[str, dict[str, Any]]


class _Content(BaseModel):
    model_config = STRICT

    version: int = Field(alias="schema")
    settings: dict[str, Any]
    epoch: int
    batch: int
    history: list[dict[str, Number | None]]
    best: float
    optimizer: _Optimizer
    scaler: dict[str, float]


@dataclass
class Progress:
    """The progress of a training.

    Attributes:
        epoch: Number of finished epochs.
        batch: Number of finished batches of the next epoch.
        history: One record per finished epoch.
        sums: Terms of the loss, summed over those batches.
        generators: Random state of each process, by rank; empty between epochs.
        best: Largest validation accuracy so far.
    """

    epoch: int = 0
    batch: int = 0
    history: History = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    generators: list[Tensor] = field(default_factory=list)
    best: float = -1.0


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint file.

    Attributes:
        progress: The progress of the training.
        tensors: Tensors by ``GROUP/NAME``: ``module``, ``optimizer``, and if used ``ema``, ``best``.
        optimizer: The optimiser's groups, and its state without tensors.
        scaler: State of the gradient scaler; empty without one.
    """

    progress: Progress
    tensors: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]

    def group(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of one group, by their own names."""
        return {key[len(name) + 1 :]: t for key, t in self.tensors.items() if key.startswith(f"{name}/")}

    def restore_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Load the optimiser's state, each tensor in the memory format of its parameter."""
        state = {int(index): dict(values) for index, values in self.optimizer["state"].items()}
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for name, tensor in self.group("optimizer").items():
            index, _, key = name.partition("/")
            like = parameters[int(index)]
            same = tensor.shape == like.shape
            state[int(index)][key] = torch.empty_like(like).copy_(tensor) if same else tensor
        groups, kept = [], optimizer.state_dict()["param_groups"]
        for group, own in zip(self.optimizer["param_groups"], kept, strict=True):
            # Other versions of PyTorch have other keys. The learning rate is set in every step.
            shared = (group.keys() & own.keys()) - _FREE
            if "params" not in shared or any(group[key] != finite(own[key]) for key in shared):
                raise ValueError("the optimiser has other settings")
            groups.append({**group, **{key: own[key] for key in _FREE & own.keys()}})
        optimizer.load_state_dict({"state": state, "param_groups": groups})


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Convert any error that a damaged checkpoint causes, while it is read or loaded, to one error.

    Raises:
        ImfDeployError: naming the file.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ImfDeployError(f"the checkpoint {path} is damaged", "Delete it and run again") from error


def check_tensors(checkpoint: Checkpoint, module: torch.nn.Module) -> None:
    """Check the values that a training uses only after it has loaded a checkpoint.

    Raises:
        ValueError: the best weights do not belong to the module, or a sum is not a number.
        RuntimeError: a state is not that of a generator.
    """
    own, best = module.state_dict(), checkpoint.group("best")
    if best and (best.keys() != own.keys() or any(t.shape != own[name].shape for name, t in best.items())):
        raise ValueError("the best weights belong to another model")
    if any(total.dim() or not total.is_floating_point() for total in checkpoint.progress.sums.values()):
        raise ValueError("a sum is not a number")
    length = len(torch.get_rng_state())
    for state in checkpoint.progress.generators:
        torch.Generator().set_state(state[:length])


def check_finite(state: Mapping[str, Tensor], when: str) -> None:
    """Refuse weights and batch norm statistics that are not finite, even if the loss does not show it yet.

    Raises:
        DivergedError: naming the first of them, and ``when``.
    """
    if spoilt := not_finite(state):
        raise DivergedError(
            f"{len(spoilt)} of {len(state)} weights and statistics are not finite {when}: {spoilt[0]}",
            "Lower `lr` or add `clip_grad` 1, in another `output`; the last checkpoint is kept",
        )


def save_checkpoint(
    path: Path,
    settings: Mapping[str, Any],
    progress: Progress,
    groups: Mapping[str, Mapping[str, Tensor]],
    optimizer: Mapping[str, Any],
    scaler: Mapping[str, Any],
) -> None:
    """Write a checkpoint, which replaces the previous one.

    Args:
        path: Checkpoint file.
        settings: Everything that determines the training's result, as JSON values.
        progress: The progress of the training.
        groups: ``state_dict`` of the module, and if used ``ema`` and ``best``.
        optimizer: The optimiser's ``state_dict``.
        scaler: ``state_dict`` of the gradient scaler.

    Raises:
        DivergedError: weights or statistics are not finite; the previous checkpoint is kept.
    """
    within = f"{progress.batch} step(s) into epoch {progress.epoch + 1}" if progress.batch else ""
    for state in groups.values():
        check_finite(state, within or f"after epoch {progress.epoch}")
    tensors = {f"{group}/{name}": t for group, state in groups.items() for name, t in state.items()}
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in optimizer["state"].items():
        scalars[str(index)] = {}
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{key}"] = value
            else:
                scalars[str(index)][key] = value
    tensors |= {f"sums/{name}": total for name, total in progress.sums.items()}
    tensors |= {f"generators/{rank}": state for rank, state in enumerate(progress.generators)}
    content = {
        "schema": _SCHEMA,
        "settings": settings,
        "epoch": progress.epoch,
        "batch": progress.batch,
        "history": progress.history,
        "best": progress.best,
        "optimizer": {"param_groups": [_plain(g) for g in optimizer["param_groups"]], "state": scalars},
        "scaler": dict(scaler),
    }
    save_weights(path, tensors, {_KEY: json.dumps(content)})


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return an optimiser's group with numbers instead of scalar tensors."""
    return {key: value.item() if isinstance(value, Tensor) else value for key, value in group.items()}


def load_checkpoint(path: Path, settings: Mapping[str, Any], overwrite: bool) -> Checkpoint | None:
    """Read the checkpoint of a training with the same settings.

    Returns:
        The checkpoint; ``None`` if there is none, or if another training's is to be overwritten.

    Raises:
        UsageError: it belongs to another training; the message names the settings that differ.
        ImfDeployError: it is damaged, or was written by another version.
    """
    if not path.is_file():
        return None
    with reading(path):
        tensors, content = _read(path)
        known = content["settings"]
        progress = Progress(content["epoch"], content["batch"], content["history"], best=content["best"])
        checkpoint = Checkpoint(progress, tensors, content["optimizer"], content["scaler"])
        progress.sums = checkpoint.group("sums")
        generators = checkpoint.group("generators")
        progress.generators = [generators[str(rank)] for rank in range(len(generators))]
    differing = differences(known, finite(settings))
    if not differing:
        return checkpoint
    if overwrite:
        return None
    raise UsageError(
        f"{path} is an unfinished training with other settings ({', '.join(differing)})",
        "Use the same settings, another `output`, or `overwrite`",
    )


def steps_done(path: Path, per_epoch: int) -> int:
    """Return the number of finished steps of a checkpoint, without its tensors; 0 if none can be read.

    Args:
        path: Path of the checkpoint, which may belong to another training.
        per_epoch: Steps per epoch.
    """
    try:
        with safe_open(path, framework="pt") as file:
            content = _content(file, path)
    except (OSError, ValueError, ImfDeployError, SafetensorError):
        return 0
    return int(content["epoch"]) * per_epoch + int(content["batch"])


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            content = _content(file, path)
            return {name: file.get_tensor(name) for name in file.keys()}, content  # noqa: SIM118
    except (ImfDeployError, SafetensorError) as error:
        raise ValueError("it cannot be read") from error


def _content(file: Any, path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint besides its tensors.

    Raises:
        ImfDeployError: it is not a JSON object.
        ValueError: no training can have written it.
    """
    content = parse_object((file.metadata() or {}).get(_KEY, ""), f"the checkpoint {path}")
    from_json(_Content, content)
    epochs = [epoch.get("epoch") for epoch in content["history"]]
    if content["schema"] != _SCHEMA:
        raise ValueError("another version wrote it")
    if content["batch"] < 0 or epochs != list(range(1, content["epoch"] + 1)):
        raise ValueError("its epochs are not those of its history")
    return content
