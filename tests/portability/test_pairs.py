"""The bound on pairs: scales, rounding, and the order in which weights meet."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from imf_deploy.portability.pairs import (
    LARGEST_SUM,
    bounded_scales,
    can_saturate,
    conv_matrix,
    round_within_bound,
)
from imf_deploy.portability.products import from_matrix, output_axis, weight_matrix


def worst_sums(matrix: np.ndarray) -> tuple[int, int]:
    """Return the largest and the smallest sum of two products with any activations, by trying extremes."""
    padded = np.pad(matrix.astype(int), ((0, 0), (0, matrix.shape[1] % 2)))
    first, second = padded[:, 0::2], padded[:, 1::2]
    sums = [a * first + b * second for a in (0, 255) for b in (0, 255)]
    return int(np.max(sums)), int(np.min(sums))


@pytest.mark.parametrize("depth", [1, 2, 3, 27, 72, 577])
@pytest.mark.parametrize("spread", ["normal", "heavy", "one sign"])
def test_no_pair_saturates_and_scales_are_as_small_as_that_allows(depth: int, spread: str) -> None:
    random = np.random.default_rng(depth)
    matrix = random.standard_t(2, (40, depth)) if spread == "heavy" else random.normal(0, 1, (40, depth))
    matrix = np.abs(matrix) if spread == "one sign" else matrix
    matrix[0] = 0
    scales = bounded_scales(matrix)
    rounded = round_within_bound(matrix, scales)
    assert not can_saturate(rounded).any()
    largest, smallest = worst_sums(rounded)
    assert largest <= 32767
    assert smallest >= -32768
    assert np.array_equal(rounded, np.rint(matrix / scales[:, None]))  # rounding alone is enough
    assert scales[0] == 1
    # A scale 2 % smaller exceeds the bound, or the range of int8, in every row.
    tight = np.rint(matrix[1:] / (0.98 * scales[1:, None]))
    over = np.abs(tight).max(1) > 127
    sums = np.abs(np.pad(tight, ((0, 0), (0, depth % 2))).reshape(39, -1, 2))
    same = np.prod(np.sign(np.pad(tight, ((0, 0), (0, depth % 2))).reshape(39, -1, 2)), 2) > 0
    assert (over | ((sums.sum(2) > LARGEST_SUM) & same).any(1)).all()


def test_rounding_at_another_scale_takes_the_nearest_pair_within_the_bound() -> None:
    matrix = np.array([[100.0, 60.0], [-90.4, -90.4], [127.0, 127.0], [-127.0, 127.0], [127.0, 1.0]])
    rounded = round_within_bound(matrix, np.ones(5))
    assert rounded.tolist() == [[84, 44], [-64, -64], [64, 64], [-127, 127], [127, 1]]


def test_which_pairs_can_saturate() -> None:
    matrix = np.array([[64, 64, 1], [64, 65, 1], [-64, -64, 0], [-64, -65, 0], [127, -127, 127]], np.int8)
    assert can_saturate(matrix).any(1).tolist() == [False, True, False, True, False]


def test_pairs_run_over_input_channels_first() -> None:
    """Weights that are in bounds in another order, and are not in the one of the kernels."""
    weights = np.zeros((1, 2, 1, 2), np.int8)
    weights[0, :, 0, 0] = 100  # two channels of one pixel meet
    assert can_saturate(conv_matrix(weights)).any()
    assert not can_saturate(weights.reshape(1, -1)).any()
    weights = np.zeros((1, 2, 1, 2), np.int8)
    weights[0, 0, 0, :] = 100  # two pixels of one channel do not
    assert not can_saturate(conv_matrix(weights)).any()
    assert can_saturate(weights.reshape(1, -1)).any()


@pytest.mark.parametrize(
    ("op_type", "attributes", "shape", "rows", "axis"),
    [
        ("Conv", {}, (6, 4, 3, 3), 6, 0),
        ("Conv", {"group": 2}, (6, 2, 3), 6, 0),
        ("Conv", {"group": 3}, (6, 1, 3, 3), 6, 0),
        ("Gemm", {"transB": 1}, (6, 4), 6, 0),
        ("Gemm", {}, (4, 6), 6, 1),
        ("MatMul", {}, (4, 6), 6, 1),
        ("MatMul", {}, (3, 4, 6), 18, None),
        ("MatMul", {}, (4,), 1, None),
    ],
)
def test_weights_as_a_matrix_and_back(
    op_type: str, attributes: dict[str, int], shape: tuple[int, ...], rows: int, axis: int | None
) -> None:
    node = helper.make_node(op_type, ["x", "w"], ["y"], **attributes)
    weights = np.arange(np.prod(shape)).reshape(shape)
    matrix = weight_matrix(node, weights)
    assert matrix is not None
    assert len(matrix) == rows
    assert np.array_equal(from_matrix(node, matrix, shape), weights)
    assert output_axis(node, weights) == axis


def test_depthwise_convolutions_have_no_pairs() -> None:
    assert weight_matrix(helper.make_node("Conv", ["x", "w"], ["y"], group=6), np.zeros((6, 1, 3, 3))) is None
