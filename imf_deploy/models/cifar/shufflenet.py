"""ShuffleNet V1 (Zhang et al. 2018, three groups) and V2 (Ma et al. 2018, 1x) for CIFAR.

As in Tian et al. 2019: a stem of one 1x1 convolution, no pooling after it, and three stages that each halve
the resolution.
"""

from typing import cast

import torch
from torch import Tensor, nn

from imf_deploy.models.cifar.layers import Head, conv_bn, initialize

_STEM = 24
_BLOCKS = (4, 8, 4)
_GROUPS = 3


class _Down1(nn.Module):
    """V1 with stride 2: in addition to the filtered path, the averaged input is kept."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.path = _path1(inputs, outputs - inputs, 2, 1 if inputs == _STEM else _GROUPS)
        self.pool = nn.AvgPool2d(3, 2, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.relu(torch.cat([self.path(x), self.pool(x)], 1)))


class _Basic1(nn.Module):
    """V1 with stride 1: a residual block of grouped convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.path = _path1(channels, channels, 1, _GROUPS)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.relu(x + self.path(x)))


def _path1(inputs: int, outputs: int, stride: int, groups: int) -> nn.Sequential:
    inner = outputs // 4
    return nn.Sequential(
        conv_bn(inputs, inner, 1, groups=groups),
        nn.ChannelShuffle(groups),
        # Unlike in the paper, a ReLU also follows the depthwise convolution (Tian et al. 2019).
        conv_bn(inner, inner, 3, stride, groups=inner),
        conv_bn(inner, outputs, 1, groups=_GROUPS, relu=False),
    )


class _Down2(nn.Module):
    """V2 with stride 2: both halves of the output are filtered."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.left = nn.Sequential(
            conv_bn(inputs, inputs, 3, 2, groups=inputs, relu=False), conv_bn(inputs, half, 1)
        )
        self.right = nn.Sequential(
            conv_bn(inputs, half, 1),
            conv_bn(half, half, 3, 2, groups=half, relu=False),
            conv_bn(half, half, 1),
        )
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.shuffle(torch.cat([self.left(x), self.right(x)], 1)))


class _Basic2(nn.Module):
    """V2 with stride 1: one half of the channels passes through."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.path = nn.Sequential(
            conv_bn(half, half, 1), conv_bn(half, half, 3, groups=half, relu=False), conv_bn(half, half, 1)
        )
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        kept, filtered = x.chunk(2, 1)
        return cast(Tensor, self.shuffle(torch.cat([kept, self.path(filtered)], 1)))


class CifarShuffleNet(nn.Sequential):
    """``[N, 3, H, W]`` -> logits ``[N, num_classes]``.

    Args:
        version: 1 or 2.
        num_classes: Number of logits.
    """

    def __init__(self, version: int, num_classes: int) -> None:
        super().__init__()
        widths = (240, 480, 960) if version == 1 else (116, 232, 464)
        channels = _STEM
        self.stem = conv_bn(3, channels, 1)
        stages = []
        for count, width in zip(_BLOCKS, widths, strict=True):
            first = _Down1(channels, width) if version == 1 else _Down2(channels, width)
            rest = [_Basic1(width) if version == 1 else _Basic2(width) for _ in range(count - 1)]
            stages.append(nn.Sequential(first, *rest))
            channels = width
        self.stages = nn.Sequential(*stages)
        features = channels if version == 1 else 1024
        self.features: nn.Module = nn.Identity() if version == 1 else conv_bn(channels, features, 1)
        self.head = Head(features, num_classes)
        initialize(self)
