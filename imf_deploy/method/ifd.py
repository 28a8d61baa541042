"""The intermediate feature distiller (IFD): a branch from a student block to the teacher's features."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from imf_deploy.image_size import Size, sides
from imf_deploy.models import Block

MOST_REFINING = 100
"""Maximum number of refining units in an IFD, so that a damaged record cannot build an endless network."""
GROWTH = 4
"""Factor from the block's channels to those of refined maps."""
NARROWEST, WIDEST = 128, 512
"""Bounds of that number of channels, if the teacher has as many."""


class IntermediateFeatureDistiller(nn.Module):
    """Map a block's output to the shape of the teacher's last feature map.

    A unit is the paper's (Kim, Lee, Woo 2023): depthwise 3x3, pointwise 1x1, batch norm, ReLU, the same for
    every architecture. The number of units is ours: one with stride 2 for each halving until the resolution
    matches, or one with stride 1, and then ``refining`` more. The channels between them are also ours: see
    :func:`widths`.

    Args:
        channels: Channels of the block's output.
        size: Size of the block's output: the side of a square, or height and width.
        teacher_channels: Channels of the teacher's last feature map.
        teacher_size: Size of that map. The output is never smaller than it, unless the block's output already
            is.
        refining: Number of further units at the teacher's resolution; 0 or more.
    """

    def __init__(
        self, channels: int, size: Size, teacher_channels: int, teacher_size: Size, refining: int = 0
    ) -> None:
        super().__init__()
        strides = []
        (height, width), (least_height, least_width) = sides(size), sides(teacher_size)
        while (
            max(height, width) > 1 and (height + 1) // 2 >= least_height and (width + 1) // 2 >= least_width
        ):
            height, width = (height + 1) // 2, (width + 1) // 2
            strides.append(2)
        strides = strides or [1]
        outputs_of = widths(channels, teacher_channels, len(strides), refining)
        self.sides = height, width
        layers: list[nn.Module] = []
        for stride, outputs in zip(strides + [1] * refining, outputs_of, strict=True):
            layers += [
                nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
                nn.Conv2d(channels, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            channels = outputs
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, channels, H, W]`` -> ``[N, teacher_channels, *sides]``."""
        return cast(Tensor, self.layers(features))


def widths(channels: int, teacher_channels: int, reducing: int, refining: int) -> list[int]:
    """Return the output channels of each unit (ours); the last has the teacher's channels.

    Units that reduce the resolution keep the block's channels, because their maps are large, except the last
    of them. From there on there are :data:`GROWTH` times the block's, within :data:`NARROWEST` and
    :data:`WIDEST`, and no more than the teacher's: a wide teacher costs one wide convolution per branch.

    Args:
        channels: Channels of the block.
        teacher_channels: Channels of the teacher.
        reducing: Number of units until the resolution is the teacher's, 1 or more.
        refining: Number of units after them, 0 or more.
    """
    between = min(teacher_channels, max(GROWTH * channels, NARROWEST), WIDEST)
    return [channels] * (reducing - 1) + [between] * refining + [teacher_channels]


def make_ifds(
    blocks: Sequence[Block], teacher_features: Sequence[Block], refining: Sequence[int]
) -> nn.ModuleList:
    """Return an IFD with fresh weights for each block, with the map that it learns and its refining units."""
    return nn.ModuleList(
        IntermediateFeatureDistiller(b.channels, b.size, t.channels, t.size, units)
        for b, t, units in zip(blocks, teacher_features, refining, strict=True)
    )
