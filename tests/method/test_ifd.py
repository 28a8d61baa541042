"""The shape of an intermediate feature distiller."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from imf_deploy.image_size import Size, sides
from imf_deploy.method.ifd import IntermediateFeatureDistiller, ifd_cost, refined_channels, widths
from imf_deploy.models import Block
from imf_deploy.records.making import IfdShape
from imf_deploy.verification.proof import count_parameters

CASES = [
    # block size, teacher size, size of the output, number of steps
    (28, 7, 7, 2),
    (16, 4, 4, 2),
    (8, 8, 8, 1),
    (7, 4, 4, 1),  # halving rounds up
    (8, 5, 8, 1),  # never below the teacher's
    (4, 8, 4, 1),  # already smaller: the resolution stays
    (5, 3, 3, 1),
    (9, 1, 1, 4),
    (1, 1, 1, 1),
]


def distiller(
    channels: int, size: Size, outputs: int, side: Size, refining: int = 0
) -> IntermediateFeatureDistiller:
    shape = IfdShape(outputs, side, refining, refined_channels(channels, outputs))
    return IntermediateFeatureDistiller(channels, size, shape)


@pytest.mark.parametrize(("size", "teacher_size", "expected", "steps"), CASES)
def test_the_output_has_the_teacher_s_shape(size: int, teacher_size: int, expected: int, steps: int) -> None:
    ifd = distiller(6, size, 10, teacher_size).eval()
    features = ifd(torch.randn(2, 6, size, size))
    assert features.shape == (2, 10, expected, expected)
    assert ifd.sides == (expected, expected)
    assert len(ifd.layers) == 4 * steps


@pytest.mark.parametrize(
    ("size", "teacher_size", "expected"),
    [((24, 40), (6, 10), (6, 10)), ((12, 20), (2, 4), (3, 5)), ((1, 9), (1, 3), (1, 3)), (8, (4, 8), (8, 8))],
)
def test_maps_that_are_not_square(size: Any, teacher_size: Any, expected: tuple[int, int]) -> None:
    ifd = distiller(6, size, 10, teacher_size).eval()
    assert ifd(torch.randn(2, 6, *sides(size))).shape == (2, 10, *expected)
    assert ifd.sides == expected


def test_every_step_is_depthwise_pointwise_norm_relu() -> None:
    ifd = distiller(6, 16, 10, 4)
    kinds = [type(layer) for layer in ifd.layers]
    assert kinds == [nn.Conv2d, nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2
    depthwise, pointwise = ifd.layers[0], ifd.layers[1]
    assert (depthwise.kernel_size, depthwise.groups, depthwise.stride) == ((3, 3), 6, (2, 2))
    assert (pointwise.kernel_size, pointwise.groups) == ((1, 1), 1)
    # 6 x 9 + 6 x 6 + 2 x 6 for the first step, 6 x 9 + 6 x 10 + 2 x 10 for the second.
    assert sum(p.numel() for p in ifd.parameters()) == 102 + 134


@pytest.mark.parametrize(
    ("channels", "teacher_channels", "reducing", "refining", "expected"),
    [
        (24, 128, 1, 0, [128]),
        (16, 128, 3, 0, [16, 16, 128]),
        (16, 128, 2, 1, [16, 128, 128]),
        (32, 2048, 1, 2, [128, 128, 2048]),  # the teacher's only at the end
        (96, 2048, 2, 1, [96, 384, 2048]),  # four times the block's
        (1280, 2048, 1, 1, [512, 2048]),  # at most 512 between
        (1280, 64, 1, 1, [64, 64]),
    ],
)
def test_channels_between_units(
    channels: int, teacher_channels: int, reducing: int, refining: int, expected: list[int]
) -> None:
    shape = IfdShape(teacher_channels, 1, refining, refined_channels(channels, teacher_channels))
    assert widths(channels, shape, reducing) == expected


@pytest.mark.parametrize(("size", "teacher_size", "expected", "steps"), CASES)
def test_refining_units_keep_the_shape(size: int, teacher_size: int, expected: int, steps: int) -> None:
    ifd = distiller(6, size, 10, teacher_size, refining=2).eval()
    assert ifd(torch.randn(2, 6, size, size)).shape == (2, 10, expected, expected)
    assert len(ifd.layers) == 4 * (steps + 2)
    strides = [layer.stride for layer in ifd.layers if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    assert strides[-2:] == [(1, 1), (1, 1)]


def test_features_are_not_negative_and_the_input_stays() -> None:
    ifd = distiller(6, 8, 10, 8)
    block = torch.randn(2, 6, 8, 8)
    before = block.clone()
    assert ifd(block).min() >= 0
    assert torch.equal(block, before)


@pytest.mark.parametrize(("size", "teacher_size", "expected", "steps"), CASES)
def test_its_cost_is_that_of_its_layers(size: int, teacher_size: int, expected: int, steps: int) -> None:
    shape = IfdShape(10, teacher_size, 2, 7)
    ifd = IntermediateFeatureDistiller(6, size, shape).eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        ifd(torch.zeros(1, 6, size, size))
    cost = ifd_cost(Block("block", 6, size), shape)
    assert (cost.macs, cost.parameters) == (counter.get_total_flops() // 2, count_parameters(ifd))
