"""The optimiser of a training."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from imf_deploy.progress import say
from imf_deploy.settings import TrainingSettings

Settings = TypeVar("Settings", bound=TrainingSettings)


FACTOR = "lr_factor"
"""Key of a group of parameters that are trained at a part of the learning rate."""


def build_optimizer(
    module: nn.Module, config: TrainingSettings, ahead: bool = False, body: Sequence[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Return SGD or AdamW for all parameters of a module.

    Args:
        module: Module to train.
        config: Settings of the training.
        ahead: Whether steps are launched ahead of the CUDA device that holds the parameters: the learning
            rate is then a tensor on it. There and on a CPU, a few kernels change all weights.
        body: Parameters whose rate is multiplied by ``config.body_lr_factor``.
    """
    device = next(module.parameters()).device
    groups = _groups(module, config, body)
    fused = ahead or device.type == "cpu" or None
    lr: float | Tensor = config.largest_lr
    if ahead:
        lr = torch.tensor(config.largest_lr, device=device)
        for group in groups:  # each needs a tensor of its own
            group["lr"] = torch.tensor(config.largest_lr * group.get(FACTOR, 1.0), device=device)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr, weight_decay=config.weight_decay, fused=fused, capturable=ahead)
    return torch.optim.SGD(
        groups,
        lr,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=fused,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of an optimiser from :func:`build_optimizer` for the next step."""
    for group in optimizer.param_groups:
        own = rate * group.get(FACTOR, 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def _groups(
    module: nn.Module, config: TrainingSettings, body: Sequence[nn.Parameter]
) -> list[dict[str, Any]]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    slow = {id(parameter) for parameter in body} if config.body_lr_factor != 1 else set()
    groups = _decayed([p for p in parameters if id(p) not in slow], config)
    for group in _decayed([p for p in parameters if id(p) in slow], config):
        groups.append({**group, FACTOR: config.body_lr_factor})
    return [group for group in groups if group["params"]]


def _decayed(parameters: list[nn.Parameter], config: TrainingSettings) -> list[dict[str, Any]]:
    """Return the parameters in groups by their weight decay."""
    if config.decay_norms:
        return [{"params": parameters}]
    # A vector is a bias, or a scale of a norm.
    return [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def scaled_rate(config: Settings) -> Settings:
    """Return settings with the learning rate for their batch size, and report it if it changes."""
    if not config.lr_base_size:
        return config
    lr = config.largest_lr
    say(
        f"Learning rate {lr:g}: {config.lr:g} for {config.lr_base_size} images, but a batch has "
        f"{config.batch_size}"
    )
    return replace(config, lr=lr, lr_base_size=0)
