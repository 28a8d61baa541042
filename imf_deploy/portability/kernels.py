"""Integer operators of ONNX Runtime in NumPy, with saturating or exact sums.

The order of pairs, the rounding of results and their limits are those of ONNX Runtime's kernels; tests
compare them bit for bit with an emulated processor.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from imf_deploy.portability.pairs import can_saturate, conv_matrix
from imf_deploy.portability.products import attribute, weight_matrix

Array = npt.NDArray[Any]
Operands = Sequence[Any]
"""Arrays in the order of the operator's inputs; ``None`` in place of an optional one that is left out."""
_BLOCK = 1 << 22
"""Maximum size in bytes of a matrix of activations that is multiplied at once."""
_EXACT_FLOAT32 = 1 << 24


def _multiply(left: Array, weights: Array, saturate: bool) -> npt.NDArray[np.int64]:
    """Return the products of ``[P, K]`` and ``[O, K]`` as ``[P, O]``.

    Args:
        left: Activations, uint8 or int8.
        weights: Weights, int8.
        saturate: Whether pairs saturate.
    """
    bound = int(np.abs(weights.astype(np.int64)).sum(1).max(initial=0)) * 255
    kind = np.float32 if bound < _EXACT_FLOAT32 else np.float64  # every sum is an integer that fits exactly
    columns = np.ascontiguousarray(weights.T.astype(kind))
    rows, pairs = np.nonzero(can_saturate(weights)) if saturate else (np.zeros(0, int), np.zeros(0, int))
    order = np.argsort(pairs, kind="stable")
    rows, pairs = rows[order], pairs[order]
    places, starts = np.unique(pairs, return_index=True)
    groups = list(zip(places, np.split(rows, starts[1:]), strict=True)) if len(places) else []
    wide = np.pad(weights, ((0, 0), (0, weights.shape[1] % 2))).astype(np.int32)
    result = np.empty((len(left), len(weights)), np.int64)
    step = max(_BLOCK // max(left.shape[1], 1), 1)
    for start in range(0, len(left), step):
        block = left[start : start + step]
        part = (block.astype(kind) @ columns).astype(np.int64)
        for pair, channels in groups:
            first = block[:, 2 * pair].astype(np.int32)[:, None] * wide[channels, 2 * pair]
            if 2 * pair + 1 < block.shape[1]:
                first = (
                    first + block[:, 2 * pair + 1].astype(np.int32)[:, None] * wide[channels, 2 * pair + 1]
                )
            part[:, channels] += np.clip(first, -32768, 32767) - first
        result[start : start + step] = part
    return result


def _zero_point(zero: Array | None) -> int:
    return 0 if zero is None else int(zero.reshape(-1)[0])


def _accumulate(
    left: Array, left_zero: int, weights: Array, weights_zero: Array | None, saturate: bool
) -> npt.NDArray[np.int64]:
    """Return ``(left - left_zero) @ (weights - weights_zero).T`` with the sums of the kernels, ``[P, O]``.

    Only products of uint8 activations and int8 weights are added in 16 bits.
    """
    saturate = saturate and left.dtype == np.uint8 and weights.dtype == np.int8
    signed, shift = (
        (weights, 0) if weights.dtype == np.int8 else ((weights ^ np.uint8(0x80)).view(np.int8), 128)
    )
    total = _multiply(left, signed, saturate)
    total += shift * left.sum(1, dtype=np.int64)[:, None]
    total -= np.int64(left_zero) * weights.sum(1, dtype=np.int64)
    if weights_zero is not None and weights_zero.any():
        zeros = np.broadcast_to(weights_zero.reshape(-1).astype(np.int64), len(weights))
        total -= zeros * (left.sum(1, dtype=np.int64) - left.shape[1] * left_zero)[:, None]
    return total


def _requantise(total: Array, scale: Array, zero: Array | None, kind: Any) -> Array:
    """Return sums as 8 bits: scaled in float32, rounded half to even, clipped."""
    limits, point = np.iinfo(kind), _zero_point(zero)
    scaled = total.astype(np.int32).astype(np.float32) * scale.astype(np.float32)
    rounded = np.rint(np.clip(scaled, limits.min - point, limits.max - point)) + np.float32(point)
    return np.asarray(rounded, kind)


def _convolution(node: NodeProto, operands: Operands, saturate: bool) -> Array:
    values, x_scale, x_zero, weights, w_scale, w_zero, y_scale, y_zero, *rest = operands
    last = attribute(node, "channels_last", 0)
    planes = np.moveaxis(values, -1, 1) if last else values
    group, zero = attribute(node, "group", 1), _zero_point(x_zero)
    windows, shape = _windows(node, planes, weights.shape[2:], zero)
    matrix = weight_matrix(node, weights)
    if matrix is None:  # depthwise: its kernels add in 32 bits
        matrix, saturate = conv_matrix(weights), False
    size, channels = len(weights) // group, weights.shape[1]
    parts = []
    for index in range(group):
        own = slice(index * size, (index + 1) * size)
        columns = windows[..., index * channels : (index + 1) * channels].reshape(len(windows), -1)
        zeros = w_zero if w_zero is None or w_zero.size == 1 else w_zero.reshape(-1)[own]
        parts.append(_accumulate(columns, zero, matrix[own], zeros, saturate))
    total = np.concatenate(parts, 1)
    if rest and rest[0] is not None:
        total = total + rest[0]
    scale = x_scale.reshape(-1) * w_scale.reshape(-1) / y_scale.reshape(-1)
    result = _requantise(total, scale, y_zero, values.dtype).reshape(len(values), *shape, -1)
    return result if last else np.ascontiguousarray(np.moveaxis(result, -1, 1))


def _windows(
    node: NodeProto, values: Array, kernel: tuple[int, ...], fill: int
) -> tuple[Array, tuple[int, ...]]:
    """Return the kernel's input at each position, ``[P, *kernel, C]``, and the sizes of the result."""
    rank = len(kernel)
    strides = attribute(node, "strides", [1] * rank)
    dilations = attribute(node, "dilations", [1] * rank)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = _pads(node, values.shape[2:], spans, strides)
    padded = np.pad(np.moveaxis(values, 1, -1), [(0, 0), *pads, (0, 0)], constant_values=fill)
    seen = np.lib.stride_tricks.sliding_window_view(padded, spans, tuple(range(1, rank + 1)))
    places = tuple(slice(None, None, stride) for stride in strides)
    taps = tuple(slice(None, None, dilation) for dilation in dilations)
    seen = seen[(slice(None), *places, slice(None), *taps)]
    shape = seen.shape[1 : rank + 1]
    return np.moveaxis(seen, rank + 1, -1).reshape(-1, *kernel, values.shape[1]), shape


def _pads(
    node: NodeProto, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    mode = attribute(node, "auto_pad", b"NOTSET").decode()
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for size, span, stride in zip(sizes, spans, strides, strict=True):
            whole = max((-(-size // stride) - 1) * stride + span - size, 0)
            less, more = whole // 2, whole - whole // 2
            pads.append((less, more) if mode == "SAME_UPPER" else (more, less))
        return pads
    given = attribute(node, "pads", [0] * 2 * len(sizes)) if mode == "NOTSET" else [0] * 2 * len(sizes)
    return list(zip(given[: len(sizes)], given[len(sizes) :], strict=True))


def _gemm(node: NodeProto, operands: Operands, saturate: bool) -> Array:
    left, a_scale, a_zero, right, b_scale, b_zero, *rest = operands
    bias, y_scale, y_zero = (*rest, None, None, None)[:3]
    rows = left.T if attribute(node, "transA", 0) else left
    matrix = weight_matrix(node, right)
    assert matrix is not None  # noqa: S101, a Gemm has a matrix
    total = _accumulate(np.ascontiguousarray(rows), _zero_point(a_zero), matrix, b_zero, saturate)
    if bias is not None:
        total = total + bias
    scale = np.float32(attribute(node, "alpha", 1.0)) * a_scale.reshape(-1) * b_scale.reshape(-1)
    if y_scale is None:
        return np.asarray(total.astype(np.int32).astype(np.float32) * scale.astype(np.float32))
    return _requantise(total, scale / y_scale.reshape(-1), y_zero, left.dtype)


def _stacked(
    left: Array, right: Array, left_zero: Array | None, right_zero: Array | None, saturate: bool
) -> Array:
    """Return the products of stacks of matrices, ``[..., M, K]`` and ``[..., K, N]``, as sums.

    A vector on the left is a row, and on the right a column, as for ``numpy.matmul``.
    """
    rows = left[None] if left.ndim == 1 else left
    columns = right[:, None] if right.ndim == 1 else right
    stacks = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    lefts = np.broadcast_to(rows, (*stacks, *rows.shape[-2:])).reshape(-1, *rows.shape[-2:])
    rights = np.broadcast_to(columns, (*stacks, *columns.shape[-2:])).reshape(-1, *columns.shape[-2:])
    zeros: Sequence[Array | None] = [right_zero] * len(lefts)
    if right_zero is not None and right_zero.ndim > 2:
        each = np.broadcast_to(right_zero, (*stacks, 1, columns.shape[-1]))
        zeros = list(each.reshape(-1, columns.shape[-1]))
    totals = [
        _accumulate(np.ascontiguousarray(a), _zero_point(left_zero), np.ascontiguousarray(b.T), z, saturate)
        for a, b, z in zip(lefts, rights, zeros, strict=True)
    ]
    result = np.stack(totals).reshape(*stacks, rows.shape[-2], columns.shape[-1])
    result = result[..., 0] if right.ndim == 1 else result
    return (
        result[..., 0, :]
        if left.ndim == 1 and right.ndim > 1
        else result[..., 0]
        if left.ndim == 1
        else result
    )


def _of_columns(values: Array) -> Array:
    """Return scales shaped to apply to the columns of a result, or of each matrix of a stack."""
    return values if values.ndim > 2 else values.reshape(-1)


def _matmul(_: NodeProto, operands: Operands, saturate: bool) -> Array:
    left, a_scale, a_zero, right, b_scale, b_zero, y_scale, y_zero = operands
    scale = a_scale.reshape(-1) * _of_columns(b_scale) / y_scale.reshape(-1)
    return _requantise(_stacked(left, right, a_zero, b_zero, saturate), scale, y_zero, left.dtype)


def _matmul_integer(_: NodeProto, operands: Operands, saturate: bool) -> Array:
    left, right, a_zero, b_zero = (*operands, None, None)[:4]
    return _stacked(left, right, a_zero, b_zero, saturate).astype(np.int32)


def _matmul_to_float(_: NodeProto, operands: Operands, saturate: bool) -> Array:
    left, right, a_scale, b_scale, a_zero, b_zero, bias = (*operands, None, None, None)[:7]
    total = _stacked(left, right, a_zero, b_zero, saturate).astype(np.int32).astype(np.float32)
    result: Array = total * (a_scale.reshape(-1) * _of_columns(b_scale))
    return result if bias is None else result + bias


OPERATORS = {
    "QLinearConv": _convolution,
    "QGemm": _gemm,
    "QLinearMatMul": _matmul,
    "MatMulInteger": _matmul_integer,
    "MatMulIntegerToFloat": _matmul_to_float,
}
