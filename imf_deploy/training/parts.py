"""Which parameters of a task are trained, and which of them at a lower rate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from imf_deploy.errors import UsageError
from imf_deploy.models.head import head_modules
from imf_deploy.settings import TrainingSettings
from imf_deploy.training.task import Task

Norm = nn.modules.batchnorm._BatchNorm


def find_head(network: nn.Module, config: TrainingSettings, num_classes: int) -> list[nn.Module]:
    """Return the head of a network if the settings distinguish it from the body; empty if they do not.

    Without a head, all batch norms are the body's.

    Raises:
        UsageError: a head is needed, but it is not found.
    """
    if not _told_apart(config):
        return []
    head = head_modules(network, num_classes)
    if not head and (config.freeze == "body" or config.body_lr_factor != 1):
        raise UsageError(
            f"no layer of {type(network).__name__} gives {num_classes} logits, so `freeze` body and "
            "`body_lr_factor` cannot tell its head from its body",
            "Use `freeze` none or norms and `body_lr_factor` 1, or a network that ends in a linear layer",
        )
    return head


def _told_apart(config: TrainingSettings) -> bool:
    return config.freeze != "none" or config.body_lr_factor != 1


class Parts:
    """The body of a task's classifier: everything but its head.

    A classifier that starts from given weights has learned its body before. What is beside the classifier in
    a task, such as the branches of a distillation, is new, as its head usually is.

    Args:
        task: The task.
        config: Settings of the training.
        num_classes: Number of logits.

    Raises:
        UsageError: a head is needed, but it is not found.
    """

    def __init__(self, task: Task, config: TrainingSettings, num_classes: int) -> None:
        self._freeze = config.freeze
        self._network = task.network if _told_apart(config) else None
        self._head = find_head(self._network, config, num_classes) if self._network else []

    @property
    def body(self) -> list[nn.Parameter]:
        """Parameters of the body; empty if the settings treat all parameters alike."""
        head = {id(parameter) for module in self._head for parameter in module.parameters()}
        return [p for p in self._network.parameters() if id(p) not in head] if self._network else []

    @contextmanager
    def frozen(self) -> Iterator[Parts]:
        """Switch off the gradients of what is frozen; at the end they are as before."""
        if self._freeze == "norms":
            parameters = [p for norm in self._norms() for p in norm.parameters()]
        else:
            parameters = self.body if self._freeze == "body" else []
        switched = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in switched:
            parameter.requires_grad_(False)
        try:
            yield self
        finally:
            for parameter in switched:
                parameter.requires_grad_(True)

    def hold(self) -> None:
        """Keep the statistics of the body's batch norms, after the module was put into training mode."""
        for norm in self._norms():
            norm.eval()

    def _norms(self) -> list[nn.Module]:
        if self._network is None or self._freeze == "none":
            return []
        head = {id(module) for each in self._head for module in each.modules()}
        # Searched each time: several processes replace batch norms by synchronised ones.
        return [m for m in self._network.modules() if isinstance(m, Norm) and id(m) not in head]
