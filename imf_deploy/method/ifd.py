"""The intermediate feature distiller (IFD): a branch from a student block to the teacher's features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from imf_deploy.models import Block

MOST_REFINING = 100
"""Units that refine, of an IFD: a record that is damaged builds no network without end."""
GROWTH = 4
"""How many times the block's channels those are that are refined."""
NARROWEST, WIDEST = 128, 512
"""Bounds of their number, where the teacher has as many."""


class IntermediateFeatureDistiller(nn.Module):
    """Map a block's output to the shape of the teacher's last feature map.

    A unit is the paper's (Kim, Lee, Woo 2023): depthwise 3x3, pointwise 1x1, batch norm, ReLU, the same
    for every architecture. How many there are is ours: one with stride 2 for each halving until the
    resolution matches, or one with stride 1, and then ``refining`` more. So are the channels between them:
    see :func:`widths`.

    Args:
        channels: Channels of the block's output.
        size: Height and width of the block's output.
        teacher_channels: Channels of the teacher's last feature map.
        teacher_size: Height and width of that map. The output is never smaller than it, unless
            the block's output already is.
        refining: Units that follow at the teacher's resolution; 0 or more.
    """

    def __init__(
        self, channels: int, size: int, teacher_channels: int, teacher_size: int, refining: int = 0
    ) -> None:
        super().__init__()
        strides = []
        while size > 1 and (size + 1) // 2 >= teacher_size:
            size = (size + 1) // 2
            strides.append(2)
        strides = strides or [1]
        outputs_of = widths(channels, teacher_channels, len(strides), refining)
        self.size = size
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
        """``[N, channels, H, W]`` -> ``[N, teacher_channels, size, size]``."""
        mapped: Tensor = self.layers(features)
        return mapped


def widths(channels: int, teacher_channels: int, reducing: int, refining: int) -> list[int]:
    """Return the output channels of each unit (ours); the last has the teacher's.

    The units that reduce the resolution keep the block's, since theirs are large maps, but for the last
    of them. From there on there are :data:`GROWTH` times the block's, within :data:`NARROWEST` and
    :data:`WIDEST`, and no more than the teacher's: a wide teacher costs one wide convolution a branch.

    Args:
        channels: The block's.
        teacher_channels: The teacher's.
        reducing: Units until the resolution is the teacher's, 1 or more.
        refining: Units after them, 0 or more.
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
