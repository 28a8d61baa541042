"""How a file of a teacher's weights is read, and the search for what nothing in it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from imf_deploy.data import DataSet
from imf_deploy.models import OWN_STRIDES, ModelSpec, Settings, build_model, load_checkpoint
from imf_deploy.progress import say
from imf_deploy.teaching.trial import better_teacher


@dataclass(frozen=True)
class Reading:
    """How a given file of weights is read, where nothing in it says so.

    Attributes:
        key: Which weights of the file; see :func:`imf_deploy.models.load_checkpoint`.
        settings: Of the architecture; nothing takes those that its record names, or finds them.
        stem_strides: At its first reductions; likewise.
    """

    key: str = ""
    settings: Settings | None = None
    stem_strides: tuple[int, ...] | None = None


FIND_OUT = Reading()
"""Nothing is given: what a file does not say is found out."""


def build_teacher(
    spec: ModelSpec, path: Path, key: str, device: torch.device, tell: Callable[[str], None]
) -> nn.Module:
    """Build a teacher with its weights, in evaluation mode, without gradients.

    Args:
        spec: Its architecture.
        path: Its weights.
        key: Which weights of the file; see :func:`imf_deploy.models.load_checkpoint`.
        device: Where it runs.
        tell: Gets what was decided for the user.
    """
    module = build_model(spec)
    for note in load_checkpoint(module, path, key):
        tell(note)
    return module.to(device).eval().requires_grad_(False)


def best_built(
    spec: ModelSpec, module: nn.Module, path: Path, data: DataSet, device: torch.device, reading: Reading
) -> tuple[ModelSpec, nn.Module]:
    """Return the way to build a network in which its weights do clearly better; by default, the given one.

    Args:
        spec: How it was built.
        module: The network, in evaluation mode.
        path: Its weights.
        data: What it is to teach on; see :func:`imf_deploy.teaching.trial.better_teacher`.
        device: Where it runs.
        reading: Settings and strides that it gives are not varied.
    """
    best = better_teacher(
        module,
        (
            (other, build_teacher(other, path, reading.key, device, lambda note: None))
            for other in spec.variants(reading.settings is None, reading.stem_strides is None)
        ),
        data,
        device,
    )
    if best is None:
        return spec, module
    chosen, better, gain = best
    told = []
    if chosen.settings != spec.settings:
        values = ",".join(f"{name}={str(value).lower()}" for name, value in chosen.settings)
        told.append(f"--teacher-options {values}")
    if chosen.stem_strides != spec.stem_strides:
        strides = ",".join(map(str, chosen.stem_strides)) or OWN_STRIDES
        told.append(f"--teacher-stem-strides {strides}")
    say(f"{path}: {' '.join(told)} is chosen, since it gets {gain}")
    return chosen, better
