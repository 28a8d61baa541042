"""Ceilings of a GPU's memory and arithmetic, as measured, and the minimum time of a network below them.

The model of a network: every convolution and linear layer reads its input and its weights once and writes its
output once, in numbers of two bytes, and everything else is fused with a layer. A layer takes at least the
time of its bytes at the speed of a device-to-device copy, or that of its multiplications and additions at the
speed of a large fp16 matrix product, whichever is longer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

COPY_BYTES = 1 << 30
MATRIX = 8192
_RUNS = 20
_HALF = 2


@dataclass(frozen=True)
class Ceilings:
    """Ceilings measured on a device.

    Attributes:
        bytes_per_second: Speed of a copy within the device's memory; read and written bytes both count.
        flops: Speed of an fp16 matrix product with fp32 sums; a multiplication and an addition count as two.
    """

    bytes_per_second: float
    flops: float


def measure_ceilings() -> Ceilings:
    """Measure both ceilings of the current CUDA device, by CUDA events."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copy_s = _seconds(lambda: target.copy_(source))
    left, right = (torch.randn(MATRIX, MATRIX, device="cuda").half() for _ in range(2))
    product = torch.empty_like(left)
    matrix_s = _seconds(lambda: torch.mm(left, right, out=product))
    return Ceilings(2 * COPY_BYTES / copy_s, 2 * MATRIX**3 / matrix_s)


def _seconds(run: Callable[[], object]) -> float:
    """Return the shortest time of a run: a ceiling is what the device can do."""
    for _ in range(3):
        run()
    taken = []
    for _ in range(_RUNS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end))
    return min(taken) / 1e3


@dataclass(frozen=True)
class LayerCost:
    """The memory traffic and the computation of one layer for one image.

    Attributes:
        activations: Numbers that it reads and writes.
        weights: Numbers that it reads once for the whole batch.
        macs: Multiplications with an addition.
    """

    activations: int
    weights: int
    macs: int


def layer_costs(module: nn.Module, size: int) -> list[LayerCost]:
    """Return the cost of every convolution and linear layer, for one image of ``size`` pixels."""
    costs: list[LayerCost] = []

    def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        weights = sum(part.numel() for part in layer.parameters())
        fan_in = layer.weight[0].numel()
        costs.append(LayerCost(inputs[0].numel() + output.numel(), weights, output.numel() * fan_in))

    handles = [
        layer.register_forward_hook(note)
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.inference_mode():
            module(torch.zeros(1, 3, size, size))
    finally:
        for handle in handles:
            handle.remove()
    return costs


def least_seconds(costs: list[LayerCost], batch: int, ceilings: Ceilings) -> dict[str, float]:
    """Return the minimum seconds of a batch: by memory alone, by arithmetic alone, and layer by layer."""
    memory = [_HALF * (cost.activations * batch + cost.weights) / ceilings.bytes_per_second for cost in costs]
    arithmetic = [2 * cost.macs * batch / ceilings.flops for cost in costs]
    return {
        "memory": sum(memory),
        "arithmetic": sum(arithmetic),
        "layers": sum(max(pair) for pair in zip(memory, arithmetic, strict=True)),
    }


def shares(costs: list[LayerCost], batch: int, ceilings: Ceilings, seconds: float) -> dict[str, Any]:
    """Return the fraction of each ceiling that a measured time of a batch reaches, and the ceilings."""
    least = least_seconds(costs, batch, ceilings)
    return {name: value / seconds for name, value in least.items()} | {"ceilings": asdict(ceilings)}
