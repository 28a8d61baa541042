"""Pairs of int8 weights whose products with uint8 activations are added in 16 bits."""

from typing import Any

import numpy as np
import numpy.typing as npt

LARGEST_SUM = 32767 // 255
"""Maximum sum of two weights of one sign that no activation can make saturate: 128, as 255 x 129 > 32,767."""

Int8 = npt.NDArray[np.int8]
Float = npt.NDArray[np.float64]


def conv_matrix(weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the weights of a convolution, ``[O, I, *kernel]``, as ``[O, K]`` in the kernels' order.

    ONNX Runtime multiplies matrices whose ``K`` runs over kernel row, kernel column and input channel, the
    last one fastest, wherever a convolution is not depthwise. Source: ONNX Runtime's ``QLinearConv``.
    """
    return np.moveaxis(weights, 1, -1).reshape(len(weights), -1)


def in_pairs(matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``[O, K]`` as the pairs that are added in 16 bits, ``[O, ceil(K / 2), 2]``, zero-padded."""
    rows, depth = matrix.shape
    return np.pad(matrix, ((0, 0), (0, depth % 2))).reshape(rows, (depth + 1) // 2, 2)


def can_saturate(matrix: Int8) -> npt.NDArray[np.bool_]:
    """Return which pairs some activations make saturate, ``[O, ceil(K / 2)]``.

    Args:
        matrix: Weights, ``int8 [O, K]``.
    """
    pairs = in_pairs(matrix).astype(np.int32)
    positive, negative = np.maximum(pairs, 0).sum(2), np.maximum(-pairs, 0).sum(2)
    # 16 bits hold one more negative number, but 255 x 129 exceeds it as well.
    return np.asarray(np.maximum(positive, negative) > LARGEST_SUM, np.bool_)


def round_within_bound(matrix: Float, scales: Float) -> Int8:
    """Quantise weights so that no pair of them can saturate.

    Values are rounded to the nearest step. If a pair of one sign then exceeds :data:`LARGEST_SUM`, it is
    replaced by the nearest pair of integers whose sum is the bound. Source: ours.

    Args:
        matrix: Weights, ``[O, K]``.
        scales: One for each row, ``[O]``.

    Returns:
        ``int8 [O, K]``, from -127 to 127.
    """
    steps = matrix / scales[:, None]
    pairs, real = in_pairs(np.clip(np.rint(steps), -127, 127)), in_pairs(steps)
    row, pair = np.nonzero((pairs[..., 0] * pairs[..., 1] > 0) & (np.abs(pairs).sum(2) > LARGEST_SUM))
    sign, magnitudes = np.sign(pairs[row, pair, 0]), np.abs(real[row, pair])
    first = np.clip(np.rint((magnitudes[:, 0] - magnitudes[:, 1] + LARGEST_SUM) / 2), 1, 127)
    pairs[row, pair, 0], pairs[row, pair, 1] = sign * first, sign * (LARGEST_SUM - first)
    return np.asarray(pairs.reshape(len(matrix), -1)[:, : matrix.shape[1]], np.int8)


def bounded_scales(matrix: Float) -> Float:
    """Return the smallest scale of each row at which rounding alone keeps every pair within the bound.

    Source: ours.

    Args:
        matrix: Weights, ``[O, K]``.

    Returns:
        ``[O]``; 1 for a row of zeros.
    """
    pairs = in_pairs(matrix)
    largest = np.maximum(np.maximum(pairs, 0).sum(2), np.maximum(-pairs, 0).sum(2)).max(1, initial=0)
    peak = np.abs(matrix).max(1, initial=0) / 127
    # With 127 steps for the largest sum, rounding adds at most 1; with 129 it may fail.
    scales = np.maximum(peak, largest / (LARGEST_SUM - 1))
    left = np.nonzero(scales > 0)[0]
    for steps in np.linspace(LARGEST_SUM + 1, LARGEST_SUM - 1, 33)[:-1]:
        tried = np.maximum(peak[left], largest[left] / steps)
        fits = ~can_saturate(np.rint(matrix[left] / tried[:, None]).astype(np.int8)).any(1)
        scales[left[fits]] = tried[fits]
        left = left[~fits]
    return np.where(scales > 0, scales, 1)
