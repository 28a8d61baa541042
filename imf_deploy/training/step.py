"""One step of a training: from a batch to new weights, without reading anything back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from imf_deploy.processes import world_size
from imf_deploy.settings import TrainingSettings
from imf_deploy.teacher_memory.outputs import OutputsFile
from imf_deploy.training.task import Task, TaughtTask

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer


class Step:
    """The operations of every step, eagerly or in a CUDA graph.

    Args:
        task: Task to train.
        network: Network that runs ``task.module``, or its distributed form if there are several processes.
        optimizer: Optimiser of the module's parameters.
        config: Settings of the training.
        accelerator: Accelerate's ``Accelerator``.
        outputs: Stored outputs of the teacher, if any.
    """

    def __init__(
        self,
        task: Task,
        network: nn.Module,
        optimizer: AcceleratedOptimizer,
        config: TrainingSettings,
        accelerator: Accelerator,
        outputs: OutputsFile | None = None,
    ) -> None:
        self._task = task
        self._network = network
        self._optimizer = optimizer
        self._config = config
        self._accelerator = accelerator
        self._outputs = outputs
        self.names: tuple[str, ...] = ()
        """Names of the terms of the loss; known after the first step."""

    def gradients(
        self, images: Tensor, labels: Tensor, whole: int, views: Tensor | None = None, step: int = 0
    ) -> Tensor:
        """Compute the loss and its gradients.

        Args:
            images: This process's part of the batch, ``[N, C, H, W]``.
            labels: ``int64 [N]``, or probabilities ``[N, classes]``.
            whole: Number of images in the batch, over all processes.
            views: Views of these images, ``int64 [N]``, if the teacher's outputs are stored by view.
            step: Number of the step within the training, from 0.

        Returns:
            This process's part of every term of the loss, ``[K]``; :attr:`names` names them.
        """
        pictures, classes = self._split(images), self._split(labels)
        with self._accelerator.autocast():
            targets = self._targets(pictures, views, step)
        self._optimizer.zero_grad(set_to_none=True)
        values: Tensor | None = None
        for index, part in enumerate(zip(pictures, classes, targets, strict=True)):
            share = len(part[0]) / whole
            with nullcontext() if index == len(pictures) - 1 else self._accelerator.no_sync(self._network):
                with self._accelerator.autocast():
                    losses = self._task.losses(self._network, *part)
                terms = torch.stack(list(losses.values()))
                # Gradients of processes are averaged; parts of a batch may differ by one image.
                self._accelerator.backward(terms.sum() * (share * world_size()))
            self.names = tuple(losses)
            own = terms.detach() * share
            values = own if values is None else values + own
        assert values is not None  # noqa: S101  a batch has at least one part
        return values

    def update(self) -> None:
        """Change the weights by the gradients."""
        # Under fp16 the gradients are scaled up to here; clipping and the optimiser unscale them once.
        if self._config.clip_grad:
            self._accelerator.clip_grad_norm_(self._task.module.parameters(), self._config.clip_grad)
        self._optimizer.step()

    def _targets(self, pictures: list[Tensor], views: Tensor | None, step: int) -> Sequence[Any]:
        if self._outputs is None or views is None or not isinstance(self._task, TaughtTask):
            return self._task.targets(pictures)
        known = [partial(self._outputs.get, part, step) for part in self._split(views)]
        return self._task.known_targets(pictures, known)

    def _split(self, values: Tensor) -> list[Tensor]:
        return list(values.tensor_split(self._config.grad_accumulation))
