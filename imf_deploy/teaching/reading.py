"""Reading a file of a teacher's weights, and finding settings that it does not contain."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from imf_deploy.data import DataSet
from imf_deploy.models import ModelSpec, build_model, load_checkpoint
from imf_deploy.progress import say
from imf_deploy.settings import ReadingSettings
from imf_deploy.settings.network import OWN_STRIDES, settings_text
from imf_deploy.teaching.trial import better_teacher

FIND_OUT = ReadingSettings()
"""No setting is given: those that a file does not contain are searched for."""


def build_teacher(
    spec: ModelSpec, path: Path, key: str, device: torch.device, tell: Callable[[str], None]
) -> nn.Module:
    """Build a teacher with its weights, in evaluation mode, without gradients.

    Args:
        spec: Its architecture.
        path: File of its weights.
        key: Weights of the file to use; see :func:`imf_deploy.models.load_checkpoint`.
        device: Device of the teacher.
        tell: Called with decisions made for the user.
    """
    module = build_model(spec)
    for note in load_checkpoint(module, path, key):
        tell(note)
    return module.to(device).eval().requires_grad_(False)


def best_built(
    spec: ModelSpec,
    module: nn.Module,
    path: Path,
    data: DataSet,
    device: torch.device,
    reading: ReadingSettings,
) -> tuple[ModelSpec, nn.Module]:
    """Return the way to build a network in which its weights are clearly better; by default, the given one.

    Args:
        spec: The given way.
        module: The network, in evaluation mode.
        path: File of its weights.
        data: Data that it will teach on; see :func:`imf_deploy.teaching.trial.better_teacher`.
        device: Device of the network.
        reading: NetworkSettings and strides that it contains are not varied.
    """
    best = better_teacher(
        module,
        (
            (other, build_teacher(other, path, reading.weights_key, device, lambda note: None))
            for other in spec.variants(reading.teacher_options is None, reading.teacher_stem_strides is None)
        ),
        data,
        device,
    )
    if best is None:
        return spec, module
    chosen, better, gain = best
    options = []
    if chosen.settings != spec.settings:
        options.append(f"`teacher_options` {settings_text(chosen.settings)}")
    if chosen.stem_strides != spec.stem_strides:
        strides = ",".join(map(str, chosen.stem_strides)) or OWN_STRIDES
        options.append(f"`teacher_stem_strides` {strides}")
    say(f"{path}: {' '.join(options)} is chosen, because it gets {gain}")
    return chosen, better
