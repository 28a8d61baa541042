"""Several processes that train together: Accelerate's set-up, and their communication."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import Tensor, nn

from imf_deploy.errors import ImfDeployError, ReportedError, UsageError
from imf_deploy.processes import is_first, local_rank, world_size
from imf_deploy.settings.training import Precision

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")
PATIENCE = timedelta(hours=1)
"""Timeout for the work of one process while others wait, such as evaluating a teacher on its test images."""
_MIXED = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}


def connect() -> None:
    """Connect to the other processes, if there are any: over NCCL between GPUs, over Gloo between CPUs."""
    if world_size() > 1 and not torch.distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank() % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend, timeout=PATIENCE)


def leave() -> None:
    """Disconnect from the other processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def accelerator(
    device: torch.device, precision: Precision, trackers: Sequence[str] = (), folder: Path = Path()
) -> Iterator[Accelerator]:
    """Yield Accelerate's ``Accelerator`` for one training.

    Args:
        device: Device of the training.
        precision: Precision of the forward passes.
        trackers: Names of experiment trackers.
        folder: Trackers that write files write them into its folder ``tensorboard``.

    Raises:
        UsageError: fp16 without a GPU.
    """
    if precision == "fp16" and device.type != "cuda":
        raise UsageError("`train_precision` fp16 needs a CUDA device", "Use bf16 or fp32")
    connect()
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import GradientAccumulationPlugin, ProjectConfiguration

    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # Accelerate uses the current one
    try:
        yield Accelerator(
            mixed_precision=_MIXED[precision],
            cpu=device.type == "cpu",
            # Parts of a batch are weighted in the loop, whatever accelerate launch was given.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            log_with=list(trackers) or None,
            project_config=ProjectConfiguration(logging_dir=str(folder / "tensorboard")),
        )
    finally:
        # Accelerate's settings are in a singleton that would refuse another training in this process.
        AcceleratorState._reset_state(reset_partial_state=world_size() == 1)


def on_first(make: Callable[[], T]) -> T:
    """Let the first process do something, and send the result to all others.

    If it fails because of the user, the others exit silently with its exit code.
    """
    if world_size() == 1:
        return make()
    connect()
    outcome: list[object] = [None, 0]
    error: ImfDeployError | None = None
    if is_first():
        try:
            outcome[0] = make()
        except ImfDeployError as caught:
            error, outcome[1] = caught, caught.exit_code
    torch.distributed.broadcast_object_list(outcome)
    if error:
        raise error
    if outcome[1]:
        raise ReportedError(cast(int, outcome[1]))
    return cast(T, outcome[0])


def batch_mean(values: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Return the mean of values that were measured on the parts of a batch, over all processes.

    Args:
        values: ``[K]`` for each part of this process.
        counts: Images of each part.
    """
    total = torch.stack([value.double() * count for value, count in zip(values, counts, strict=True)]).sum(0)
    sums = all_sum(torch.cat([total, total.new_tensor([sum(counts)])]))
    return (sums[:-1] / sums[-1]).to(values[0].dtype)


def all_sum(values: Tensor) -> Tensor:
    """Return the sum of a tensor of one shape over all processes."""
    if world_size() > 1:
        values = values.clone()
        torch.distributed.all_reduce(values)
    return values


def gather(values: Tensor) -> list[Tensor]:
    """Return every process's tensor, which is on the CPU, by rank."""
    if world_size() == 1:
        return [values]
    gathered: list[Tensor | None] = [None] * world_size()
    torch.distributed.all_gather_object(gathered, values)
    return [value for value in gathered if value is not None]


def share(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with those of the first process."""
    if world_size() > 1:
        for tensor in tensors:
            torch.distributed.broadcast(tensor, 0)


def wrap(module: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Return the module that runs in training: itself, or its distributed form.

    On GPUs, batch norm that uses the statistics of batches computes them over all processes. The module keeps
    its names, weights and hooks.
    """
    if world_size() == 1:
        return module
    norms = [m for m in module.train().modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if accelerator.device.type == "cuda" and any(norm.training for norm in norms):
        before = dict(module.named_modules())
        # PyTorch does not annotate the function.
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        for name, made in module.named_modules():
            if made is not before[name]:
                made._forward_hooks = before[name]._forward_hooks
                made._forward_pre_hooks = before[name]._forward_pre_hooks
    return cast(nn.Module, accelerator.prepare_model(module))
