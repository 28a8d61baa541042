"""Layers that PyTorch trains slowly on a CPU, replaced during a training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

FAST_ROWS = 3
"""Number of rows that a map needs for oneDNN's fast weight gradient of a depthwise 3x3 convolution."""
FEW_PIXELS = 512
"""Up to this number of pixels in a batch, a matrix product is faster than oneDNN's 1x1 convolution."""
COPIED = (nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.Mish)
"""In-place activations whose input PyTorch copies for the gradient."""


@contextmanager
def fast_layers(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Train some layers of a module by other operators; the module is restored afterwards.

    The module keeps its parameters, names and hooks. Only PyTorch's own classes are replaced, not their
    subclasses. Activations and their gradients stay the same to the last bit; weight gradients of
    convolutions are rounded differently.

    Args:
        module: Module to train. Nothing is replaced unless it is on a CPU.
        device: Device of the module.
    """
    changed: list[tuple[nn.Module, type[nn.Module]]] = []
    overwriting: list[nn.Module] = []
    try:
        if device.type == "cpu":
            for layer in module.modules():
                if fast := _fast_class(layer):
                    changed.append((layer, type(layer)))
                    layer.__class__ = fast
                elif type(layer) in COPIED and layer.inplace:
                    overwriting.append(layer)
        for layer in overwriting:
            setattr(layer, "inplace", False)  # noqa: B010, nn.Module declares attributes as tensors
        yield
    finally:
        for layer, before in changed:
            layer.__class__ = before
        for layer in overwriting:
            setattr(layer, "inplace", True)  # noqa: B010


def _fast_class(layer: nn.Module) -> type[nn.Module] | None:
    if type(layer) is nn.ReLU6:
        return _ReLU6 if layer.inplace else None
    if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros" or layer.dilation != (1, 1):
        return None
    if layer.kernel_size == (3, 3) and layer.padding == (1, 1) and layer.groups == layer.in_channels:
        return _DepthwiseConv2d if layer.in_channels == layer.out_channels and layer.bias is None else None
    plain = layer.kernel_size == layer.stride == (1, 1) and layer.padding == (0, 0) and layer.groups == 1
    return _PointwiseConv2d if plain else None


def _trains(features: Tensor, weight: Tensor) -> bool:
    """Return whether a weight needs a gradient, and precision and memory format are those of a training."""
    return (
        torch.is_grad_enabled()
        and weight.requires_grad
        and not torch.is_autocast_enabled("cpu")
        and features.ndim == 4
        and features.is_contiguous(memory_format=torch.channels_last)
    )


class _ReLU6(nn.ReLU6):
    """``nn.ReLU6(inplace=True)`` that keeps its output for the gradient instead of a copy of its input."""

    def forward(self, features: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and features.requires_grad):
            return functional.relu6(features, inplace=True)
        return cast(Tensor, _Clamp.apply(features))


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        functional.relu6(features, inplace=True)
        ctx.mark_dirty(features)
        ctx.save_for_backward(features)
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (clamped,) = ctx.saved_tensors
        # The output is 0 or 6 if the input was not above 0 or not below 6.
        return cast(Tensor, torch.ops.aten.hardtanh_backward(gradient, clamped, 0.0, 6.0))


class _DepthwiseConv2d(nn.Conv2d):
    """A depthwise 3x3 convolution whose weight gradient is also fast on maps of one or two rows."""

    def _conv_forward(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows, stride = features.shape[-2], self.stride[0]
        given = (rows - 1) // stride + 1
        # oneDNN has no fast gradient if the kernel extends past the last row of such a map.
        slow = rows < FAST_ROWS or (given < FAST_ROWS and (given - 1) * stride + 2 > rows)
        if not slow or not _trains(features, weight):
            return cast(Tensor, super()._conv_forward(features, weight, bias))
        return cast(Tensor, _LowDepthwise.apply(features, weight, self.stride))


class _LowDepthwise(torch.autograd.Function):
    """A depthwise 3x3 convolution with padding 1 for maps with few rows."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.stride = stride
        return torch.conv2d(features, weight, None, stride, 1, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        features, weight = ctx.saved_tensors
        before = _gradients(gradient, features, weight, ctx.stride, 0) if ctx.needs_input_grad[0] else None
        # Rows of zeros below both maps add nothing to the weight's gradient.
        low = functional.pad(gradient, (0, 0, 0, FAST_ROWS - gradient.shape[2]))
        below = (FAST_ROWS - 1) * ctx.stride[0] + 1 - features.shape[2]
        return (
            before,
            _gradients(low, functional.pad(features, (0, 0, 0, below)), weight, ctx.stride, 1),
            None,
        )


def _gradients(
    gradient: Tensor, features: Tensor, weight: Tensor, stride: tuple[int, int], which: int
) -> Tensor:
    """Return the gradient of a depthwise convolution's features (0) or weight (1)."""
    wanted = [which == 0, which == 1, False]
    gradients = torch.ops.aten.convolution_backward(
        gradient, features, weight, None, stride, [1, 1], [1, 1], False, [0, 0], len(weight), wanted
    )
    return cast(Tensor, gradients[which])


class _PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution that is computed as a matrix product if a batch has few pixels."""

    def _conv_forward(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if features[:, 0].numel() > FEW_PIXELS or not _trains(features, weight):
            return cast(Tensor, super()._conv_forward(features, weight, bias))
        # In this order the weight's gradient has the strides of the weight, which DDP requires.
        rows = weight.permute(0, 2, 3, 1).flatten(1)
        return functional.linear(features.permute(0, 2, 3, 1), rows, bias).permute(0, 3, 1, 2)
