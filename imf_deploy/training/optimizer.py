"""The optimiser of a training."""

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from imf_deploy.progress import say
from imf_deploy.settings import TrainingSettings

Settings = TypeVar("Settings", bound=TrainingSettings)


def build_optimizer(
    module: nn.Module, config: TrainingSettings, ahead: bool = False
) -> torch.optim.Optimizer:
    """Return SGD or AdamW for all parameters of a module.

    Args:
        module: Module to train.
        config: Settings of the training.
        ahead: Whether steps are launched ahead of the CUDA device that holds the parameters: the learning
            rate is then a tensor on it. There and on a CPU, a few kernels change all weights.
    """
    groups = _parameters(module, config)
    fused = ahead or next(module.parameters()).device.type == "cpu" or None
    lr: float | Tensor = config.largest_lr
    if ahead:
        lr = torch.tensor(config.largest_lr, device=next(module.parameters()).device)
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


def _parameters(module: nn.Module, config: TrainingSettings) -> list[dict[str, Any]]:
    parameters = [p for p in module.parameters() if p.requires_grad]
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
