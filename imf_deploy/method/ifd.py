"""The intermediate feature distiller (IFD): a branch from a student block to the teacher's features."""

from collections.abc import Sequence
from math import prod
from typing import cast

from torch import Tensor, nn

from imf_deploy.image_size import Size, sides
from imf_deploy.models import Block, Cost
from imf_deploy.records.making import IfdShape

GROWTH = 4
"""Factor from the block's channels to those of refined maps."""
NARROWEST, WIDEST = 128, 512
"""Bounds of that number of channels, if the teacher has as many."""


def refined_channels(channels: int, teacher_channels: int) -> int:
    """Return the channels of refined maps of an IFD of full width (ours).

    There are :data:`GROWTH` times the block's, within :data:`NARROWEST` and :data:`WIDEST`, and no more than
    the teacher's: a wide teacher costs one wide convolution per branch.

    Args:
        channels: Channels of the block.
        teacher_channels: Channels of the teacher.
    """
    return min(teacher_channels, max(GROWTH * channels, NARROWEST), WIDEST)


def strides(size: Size, side: Size) -> list[int]:
    """Return the stride of each unit that leads from a map's size to that of its target (ours).

    One unit with stride 2 for each halving until the sizes are equal, or one with stride 1. The output is
    never smaller than the target, unless the map already is.
    """
    found = []
    (height, width), (least_height, least_width) = sides(size), sides(side)
    while max(height, width) > 1 and (height + 1) // 2 >= least_height and (width + 1) // 2 >= least_width:
        height, width = (height + 1) // 2, (width + 1) // 2
        found.append(2)
    return found or [1]


def _after(size: Size, steps: Sequence[int]) -> tuple[int, int]:
    """Return height and width of a map after units with these strides."""
    height, width = (-(-side // prod(steps)) for side in sides(size))
    return height, width


def widths(channels: int, shape: IfdShape, reducing: int) -> list[int]:
    """Return the output channels of each unit (ours).

    Units that reduce the resolution keep the block's channels, because their maps are large, except the last
    of them.

    Args:
        channels: Channels of the block.
        shape: How the IFD is built.
        reducing: Number of units until the resolution is the target's, 1 or more.
    """
    return [channels] * (reducing - 1) + [shape.refined] * shape.refining + [shape.outputs]


class IntermediateFeatureDistiller(nn.Module):
    """Map a block's output towards the shape of the teacher's feature map.

    A unit is the paper's (Kim, Lee, Woo 2023): depthwise 3x3, pointwise 1x1, batch norm, ReLU, the same for
    every architecture. The number of units and the channels between them are ours: see :func:`strides` and
    :func:`widths`.

    Args:
        channels: Channels of the block's output.
        size: Size of the block's output: the side of a square, or height and width.
        shape: How the IFD is built.
    """

    def __init__(self, channels: int, size: Size, shape: IfdShape) -> None:
        super().__init__()
        steps = strides(size, shape.side)
        layers: list[nn.Module] = []
        outputs_of = widths(channels, shape, len(steps))
        for stride, outputs in zip(steps + [1] * shape.refining, outputs_of, strict=True):
            layers += [
                nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
                nn.Conv2d(channels, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            channels = outputs
        self.layers = nn.Sequential(*layers)
        self.sides = _after(size, steps)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, channels, H, W]`` -> ``[N, outputs, *sides]``."""
        return cast(Tensor, self.layers(features))


def ifd_cost(block: Block, shape: IfdShape) -> Cost:
    """Return the cost of an IFD on a block."""
    channels, cost = block.channels, Cost()
    steps = strides(block.size, shape.side)
    for number, outputs in enumerate(widths(channels, shape, len(steps)), 1):
        height, width = _after(block.size, steps[:number])
        weights = channels * (9 + outputs)
        cost += Cost(height * width * weights, weights + 2 * outputs)
        channels = outputs
    return cost


def make_ifds(blocks: Sequence[Block], shapes: Sequence[IfdShape]) -> nn.ModuleList:
    """Return an IFD with fresh weights for each block."""
    return nn.ModuleList(
        IntermediateFeatureDistiller(block.channels, block.size, shape)
        for block, shape in zip(blocks, shapes, strict=True)
    )
