"""The intermediate feature distiller (IFD): a branch from a student block to the teacher's features."""

from __future__ import annotations

from torch import Tensor, nn


class IntermediateFeatureDistiller(nn.Module):
    """Map a block's output to the shape of the teacher's last feature map.

    The structure is the paper's (Kim, Lee, Woo 2023): depthwise 3x3, pointwise 1x1, batch norm,
    ReLU, the same for every architecture. Repeating it with stride 2 until the resolution matches
    is ours.

    Args:
        channels: Channels of the block's output.
        size: Height and width of the block's output.
        teacher_channels: Channels of the teacher's last feature map.
        teacher_size: Height and width of that map. The output is never smaller than it, unless
            the block's output already is.
    """

    def __init__(self, channels: int, size: int, teacher_channels: int, teacher_size: int) -> None:
        super().__init__()
        strides = []
        while size > 1 and (size + 1) // 2 >= teacher_size:
            size = (size + 1) // 2
            strides.append(2)
        strides = strides or [1]
        self.size = size
        layers: list[nn.Module] = []
        for position, stride in enumerate(strides):
            outputs = teacher_channels if position == len(strides) - 1 else channels
            layers += [
                nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
                nn.Conv2d(channels, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, channels, H, W]`` -> ``[N, teacher_channels, size, size]``."""
        mapped: Tensor = self.layers(features)
        return mapped
