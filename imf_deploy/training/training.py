"""The state of one training, and its steps, on any number of processes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from imf_deploy.data import DataSet
from imf_deploy.data.augment import Augment
from imf_deploy.data.batches import Part
from imf_deploy.data.evaluate import accuracy_of
from imf_deploy.data.given import train_loader
from imf_deploy.processes import rank, world_size
from imf_deploy.settings import TrainingSettings
from imf_deploy.teacher_memory.outputs import OutputsFile
from imf_deploy.training import distributed
from imf_deploy.training.capture import CapturedStep
from imf_deploy.training.checkpoint import (
    Progress,
    check_tensors,
    load_checkpoint,
    reading,
    save_checkpoint,
)
from imf_deploy.training.ema import Ema
from imf_deploy.training.generators import generator_state, seed_generators, set_generator_state
from imf_deploy.training.mixing import mixing
from imf_deploy.training.optimizer import build_optimizer, set_rate
from imf_deploy.training.parts import Parts
from imf_deploy.training.step import Step
from imf_deploy.training.task import Task
from imf_deploy.training.terms import Terms, check_loss
from imf_deploy.training.weighing import Weighing, scaled

if TYPE_CHECKING:
    from accelerate import Accelerator

READ_EVERY = 50
"""Number of steps after which the losses of a training on a GPU are read back."""


class Training:
    """The state of one training.

    Args:
        task: Task to train. Its module is moved to the device.
        data: Training and validation splits.
        config: Settings.
        parts: Body and head of the task's classifier; what is frozen has no gradients.
        device: Device of the training.
        accelerator: Accelerate's ``Accelerator``.
        outputs: Stored outputs of the teacher, if any.
        capture: Whether a CUDA device runs the step as a CUDA graph, if possible.
    """

    def __init__(
        self,
        task: Task,
        data: DataSet,
        config: TrainingSettings,
        parts: Parts,
        device: torch.device,
        accelerator: Accelerator,
        outputs: OutputsFile | None = None,
        capture: bool = False,
    ) -> None:
        self._task = task
        self._outputs = outputs
        self._data = data
        self._config = config
        self._parts = parts
        self._device = device
        self._accelerator = accelerator
        self._module = task.module.to(device)
        self._network = distributed.wrap(self._module, accelerator)
        # A single process launches steps ahead of its GPU; with gradient scaling or other processes it must
        # wait.
        self._ahead = device.type == "cuda" and world_size() == 1 and config.train_precision != "fp16"
        self._optimizer = accelerator.prepare_optimizer(
            build_optimizer(self._module, config, self._ahead, parts.body)
        )
        self._rate = config.largest_lr
        self._step = Step(task, self._network, self._optimizer, config, accelerator, outputs)
        self._terms = Terms(READ_EVERY if self._ahead else 1)
        self._captured = CapturedStep(self._whole_step, device) if self._ahead and capture else None
        if self._captured:
            task.progress = torch.zeros((), device=device)
        self._ema = Ema(self._module, config.ema) if config.ema else None
        self._best: dict[str, Tensor] = {}
        self._mix = mixing(config, data.preprocess.num_classes)
        self._weighing = Weighing.of(data, config, device)
        held = data.validation
        self._held_out = held.subset(torch.arange(rank(), len(held), world_size()))
        self._loader = train_loader(
            data.train,
            data.preprocess,
            config.batch_size,
            Augment.of(config, data.preprocess.shape),
            config.seed,
            Part(rank(), world_size(), leader=self._mix is not None),
            device,
            self._held_out,
            config.balance == "sampling",
        )
        self.per_epoch = len(self._loader)
        self._progress = Progress()
        self._saved = time.monotonic()

    def restore(self, path: Path | None, settings: Mapping[str, Any], overwrite: bool) -> Progress:
        """Load a checkpoint of the same settings, if there is one."""
        if path and (checkpoint := load_checkpoint(path, settings, overwrite)):
            with reading(path):
                self._module.load_state_dict(checkpoint.group("module"))
                checkpoint.restore_optimizer(self._optimizer)
                if self._ema:
                    self._ema.load(checkpoint.group("ema"))
                if self._accelerator.scaler is not None:
                    self._accelerator.scaler.load_state_dict(checkpoint.scaler)
                self._best = checkpoint.group("best")
                check_tensors(checkpoint, self._module)
            self._progress = checkpoint.progress
        return self._progress

    def _whole_step(self, images: Tensor, labels: Tensor) -> Tensor:
        values = self._step.gradients(images, labels, self._loader.batch_size)
        self._step.update()
        return values

    def steps(self, minutes: float) -> Iterator[bool]:
        """Run the rest of an epoch; yield after each step whether a checkpoint is due within it.

        Raises:
            DivergedError: the loss is not finite. On a GPU it is read every few steps, and before a
                checkpoint is due.
        """
        done, config = self._progress, self._config
        first = done.batch
        seed_generators(config.seed, done.epoch)
        # The sums of the other processes were added to the first one's; all keep the same order of terms.
        self._terms.begin(done.epoch, {n: t.to(self._device) * (rank() == 0) for n, t in done.sums.items()})
        self._module.train()
        self._network.train()
        self._parts.hold()
        for index, (images, labels, views) in enumerate(self._loader.viewed_epoch(done.epoch, first), first):
            if index == first and first:
                set_generator_state(done.generators, self._device, config.seed, done.epoch, first)
            step = done.epoch * self.per_epoch + index
            self._rate = config.learning_rate(step, self.per_epoch * config.epochs)
            set_rate(self._optimizer, self._rate)
            late = time.monotonic() - self._saved >= minutes * 60
            due = self.step(images, labels, step, late, views) and index + 1 < self.per_epoch
            done.batch = index + 1
            if due:
                self._terms.settle()
            yield due
        self._terms.settle()

    def step(
        self, images: Tensor, labels: Tensor, step: int, late: bool, views: Tensor | None = None
    ) -> bool:
        """Run one step, and return whether a checkpoint of the first process is due."""
        if self._weighing:
            labels = self._weighing.rows(labels)
        weighted = labels.ndim > 1
        if self._mix:
            images, labels = self._mix(images, labels, step)
        if weighted:
            labels = scaled(labels)
        progress = step / (self.per_epoch * self._config.epochs)
        if isinstance(self._task.progress, Tensor):
            self._task.progress.fill_(progress)
        else:
            self._task.progress = progress
        if self._captured:
            values = self._captured(images, labels)
        else:
            values = self._step.gradients(images, labels, self._loader.batch_size, views, step)
            if not self._ahead:
                late = self._agree(values, step, late)
            self._step.update()
        if self._ema:
            self._ema.update(step)
        self._terms.add(self._step.names, values, step)
        return late

    def _agree(self, values: Tensor, step: int, late: bool) -> bool:
        """Check the loss over all processes, and return whether a checkpoint of the first one is due."""
        total = values.sum()
        loss, late_sum = distributed.all_sum(
            torch.stack([total, total.new_tensor(float(late and rank() == 0))])
        ).tolist()
        check_loss(loss, step, self._progress.epoch)
        return bool(late_sum > 0)

    def end_epoch(self) -> dict[str, float]:
        """Finish an epoch: evaluate, remember the best weights, and return the epoch's record."""
        done = self._progress
        # Without SyncBatchNorm each process has its own statistics; those of the first one are used.
        distributed.share(self._module.buffers())
        if self._ema:
            distributed.share(self._ema.state.values())
        done.sums = self._terms.sums()
        totals = distributed.all_sum(torch.stack(list(done.sums.values())))
        record = {n: float(t) / self.per_epoch for n, t in zip(done.sums, totals, strict=True)}
        done.epoch, done.batch, done.sums, done.generators = done.epoch + 1, 0, {}, []
        record |= {"epoch": done.epoch, "lr": self._rate}
        if len(self._data.validation):
            self._module.eval()
            with self._ema.in_place_of(self._module) if self._ema else nullcontext():
                accuracy = record["validation_accuracy"] = self._accuracy()
                if self._config.keep == "best" and accuracy > done.best:
                    done.best = accuracy
                    self._best = {n: t.detach().clone() for n, t in self._module.state_dict().items()}
        done.history.append(record)
        return record

    def _accuracy(self) -> float:
        """Return the fraction of correct validation images; each process evaluates its share."""
        mine, count = self._held_out, len(self._data.validation)
        preprocess, batches = self._data.preprocess, self._loader.evaluation()
        part = accuracy_of(self._task.predict, mine, preprocess, self._device, batches) if len(mine) else 0.0
        return float(distributed.all_sum(torch.tensor(round(part * len(mine)), device=self._device))) / count

    def save(self, path: Path | None, settings: Mapping[str, Any]) -> None:
        """Write a checkpoint, if there is a path; all processes wait for the first one, which writes it."""
        if path is None:
            return
        done = self._progress
        if done.batch:
            done.sums = self._terms.sums()
            done.generators = distributed.gather(generator_state(self._device))
            totals = distributed.all_sum(torch.stack(list(done.sums.values())))
            if world_size() > 1:
                mine = totals if rank() == 0 else torch.zeros_like(totals)
                done.sums.update(zip(done.sums, mine, strict=True))
                self._terms.begin(done.epoch, done.sums)
        groups: dict[str, Mapping[str, Tensor]] = {"module": self._module.state_dict(), "best": self._best}
        if self._ema:
            groups["ema"] = self._ema.state
        if self._outputs:
            self._outputs.sync()
        scaler = self._accelerator.scaler
        distributed.on_first(
            lambda: save_checkpoint(
                path,
                settings,
                done,
                groups,
                self._optimizer.state_dict(),
                {} if scaler is None else scaler.state_dict(),
            )
        )
        self._saved = time.monotonic()

    def finish(self) -> None:
        """Put the resulting weights into the module, and free what only steps need."""
        if self._captured:
            self._captured.release()
            self._optimizer.zero_grad(set_to_none=True)
        if self._best:
            self._module.load_state_dict(self._best)
        elif self._ema:
            self._module.load_state_dict(self._ema.state)
        self._module.eval()
