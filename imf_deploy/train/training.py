"""The state of one training, and its steps, on any number of processes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from imf_deploy.data import DataSet
from imf_deploy.data.batches import Part, TrainLoader
from imf_deploy.errors import DivergedError
from imf_deploy.evaluate import top1
from imf_deploy.processes import rank, world_size
from imf_deploy.train import distributed
from imf_deploy.train.checkpoint import (
    Progress,
    check_tensors,
    load_checkpoint,
    reading,
    save_checkpoint,
)
from imf_deploy.train.config import TrainConfig
from imf_deploy.train.ema import Ema
from imf_deploy.train.generators import generator_state, seed_generators, set_generator_state
from imf_deploy.train.mixing import mixing
from imf_deploy.train.optimizer import build_optimizer
from imf_deploy.train.task import Known, Task, TaughtTask
from imf_deploy.train.teacher_outputs import OutputsFile

if TYPE_CHECKING:
    from accelerate import Accelerator


class Training:
    """The state of one training."""

    def __init__(
        self,
        task: Task,
        data: DataSet,
        config: TrainConfig,
        device: torch.device,
        accelerator: Accelerator,
        outputs: OutputsFile | None = None,
    ) -> None:
        self._task = task
        self._outputs = outputs
        self._data = data
        self._config = config
        self._device = device
        self._accelerator = accelerator
        self._module = task.module.to(device)
        self._network = distributed.wrap(self._module, accelerator)
        self._optimizer = accelerator.prepare_optimizer(build_optimizer(self._module, config))
        self._ema = Ema(self._module, config.ema) if config.ema else None
        self._best: dict[str, Tensor] = {}
        self._mix = mixing(config, data.preprocess.num_classes)
        held = data.validation
        self._held_out = held.subset(torch.arange(rank(), len(held), world_size()))
        self._loader = TrainLoader(
            data.train,
            data.preprocess,
            config.batch_size,
            config.augmentation(data.preprocess.size),
            config.seed,
            Part(rank(), world_size(), leader=self._mix is not None),
            device,
            self._held_out,
        )
        self.per_epoch = len(self._loader)
        self._progress = Progress()
        self._saved = time.monotonic()

    def restore(self, path: Path, settings: Mapping[str, Any], overwrite: bool) -> Progress:
        """Load a checkpoint of the same settings, if there is one."""
        found = load_checkpoint(path, settings, overwrite)
        if found:
            with reading(path):
                self._module.load_state_dict(found.group("module"))
                found.restore_optimizer(self._optimizer)
                if self._ema:
                    self._ema.load(found.group("ema"))
                if self._accelerator.scaler is not None:
                    self._accelerator.scaler.load_state_dict(found.scaler)
                self._best = found.group("best")
                check_tensors(found, self._module)
            self._progress = found.progress
        return self._progress

    def steps(self, minutes: float) -> Iterator[bool]:
        """Do the rest of an epoch; yield after each step whether a checkpoint is due within it."""
        done, config = self._progress, self._config
        first = done.batch
        seed_generators(config.seed, done.epoch)
        # What the other processes had summed up went into the first one's; all keep one order of terms.
        sums = {name: t.to(self._device) * (rank() == 0) for name, t in done.sums.items()}
        self._module.train()
        self._network.train()
        for index, (images, labels, views) in enumerate(self._loader.viewed_epoch(done.epoch, first), first):
            if index == first and first:
                set_generator_state(done.generators, self._device, config.seed, done.epoch, first)
            step = done.epoch * self.per_epoch + index
            rate = config.learning_rate(step, self.per_epoch * config.epochs)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            late = time.monotonic() - self._saved >= minutes * 60
            terms, due = self.step(images, labels, step, late, views)
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term
            done.batch, done.sums = index + 1, sums
            yield due and done.batch < self.per_epoch

    def step(
        self, images: Tensor, labels: Tensor, step: int, late: bool, views: Tensor | None = None
    ) -> tuple[dict[str, Tensor], bool]:
        """Do one step; return this process's part of the terms, and whether the first process is late."""
        if self._mix:
            images, labels = self._mix(images, labels, step)
        self._task.progress = step / (self.per_epoch * self._config.epochs)
        pictures, classes = self._split(images), self._split(labels)
        with self._accelerator.autocast():
            targets = self._targets(pictures, views, step)
        self._optimizer.zero_grad(set_to_none=True)
        terms: dict[str, Tensor] = {}
        for index, part in enumerate(zip(pictures, classes, targets, strict=True)):
            share = len(part[0]) / self._loader.batch_size
            last = index == len(pictures) - 1
            with nullcontext() if last else self._accelerator.no_sync(self._network):
                with self._accelerator.autocast():
                    found = self._task.losses(self._network, *part)
                loss = torch.stack(list(found.values())).sum()
                # Gradients of processes are averaged; parts of a batch may differ by one image.
                self._accelerator.backward(loss * (share * world_size()))
            for name, term in found.items():
                terms[name] = terms.get(name, 0.0) + term.detach() * share
        total = torch.stack([*terms.values()]).sum()
        loss_value, late_sum = distributed.all_sum(
            torch.stack([total, total.new_tensor(float(late and rank() == 0))])
        ).tolist()
        if not math.isfinite(loss_value):
            raise DivergedError(
                f"the loss became {loss_value} at step {step} (epoch {self._progress.epoch + 1})",
                "Lower --lr or add --clip-grad 1, in another --output; earlier epochs are kept",
            )
        if self._config.clip_grad:
            self._accelerator.clip_grad_norm_(self._module.parameters(), self._config.clip_grad)
        self._optimizer.step()
        if self._ema:
            self._ema.update(self._module, step)
        return terms, late_sum > 0

    def _targets(self, pictures: list[Tensor], views: Tensor | None, step: int) -> Sequence[Any]:
        if self._outputs is None or views is None or not isinstance(self._task, TaughtTask):
            return self._task.targets(pictures)
        return self._task.known_targets(
            pictures, [Known(self._outputs, part, step) for part in self._split(views)]
        )

    def _split(self, values: Tensor) -> list[Tensor]:
        return list(values.tensor_split(self._config.grad_accumulation))

    def end_epoch(self) -> dict[str, float]:
        """Close an epoch: measure, remember the best weights, and return the epoch's record."""
        done = self._progress
        # Without SyncBatchNorm each process has statistics of its own; the first one's count.
        distributed.share(self._module.buffers())
        if self._ema:
            distributed.share(self._ema.state.values())
        totals = distributed.all_sum(torch.stack(list(done.sums.values())))
        record = {n: float(t) / self.per_epoch for n, t in zip(done.sums, totals, strict=True)}
        done.epoch, done.batch, done.sums, done.generators = done.epoch + 1, 0, {}, []
        record |= {"epoch": done.epoch, "lr": self._optimizer.param_groups[0]["lr"]}
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
        """Return the part of the validation images that are right; each process looks at its share."""
        mine, count = self._held_out, len(self._data.validation)
        preprocess, batches = self._data.preprocess, self._loader.evaluation()
        part = top1(self._task.predict, mine, preprocess, self._device, batches) if len(mine) else 0.0
        return float(distributed.all_sum(torch.tensor(round(part * len(mine)), device=self._device))) / count

    def save(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Write a checkpoint; all processes wait for the first one, which does."""
        done = self._progress
        if done.batch:
            done.generators = distributed.gather(generator_state(self._device))
            totals = distributed.all_sum(torch.stack(list(done.sums.values())))
            if world_size() > 1:
                mine = totals if rank() == 0 else torch.zeros_like(totals)
                done.sums.update(zip(done.sums, mine, strict=True))
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
        """Leave the weights that are the result in the module."""
        if self._best:
            self._module.load_state_dict(self._best)
        elif self._ema:
            self._module.load_state_dict(self._ema.state)
        self._module.eval()
