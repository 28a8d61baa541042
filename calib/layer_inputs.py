"""Mean and covariance of the inputs of each layer, by which its weights are rounded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, numpy_helper

from imf_deploy.calib.layers import LAYER_TYPES
from imf_deploy.calib.model import FloatModel
from imf_deploy.calib.ranges import Observer
from imf_deploy.data import Split
from imf_deploy.portability.products import attribute
from imf_deploy.progress import track

Float = npt.NDArray[np.float64]
Weights = npt.NDArray[np.float32]

_PER_IMAGE = 16
"""Positions of an image that are sampled, because neighbouring ones have similar inputs."""
LARGEST = 2304
"""Inputs of one output up to which their covariance is measured; 2,304 take 42 MB."""


@dataclass(frozen=True, eq=False)
class LayerInputs:
    """The inputs whose weighted sum is an output of a layer, in the order of :meth:`matrix`.

    Attributes:
        node: The layer.
        weights: Its weights.
        mean: Mean of each input, ``[groups, K]``.
        covariance: ``[groups, K, K]``; ``None`` if K exceeds :data:`LARGEST`.
    """

    node: NodeProto
    weights: Weights
    mean: Float
    covariance: Float | None

    def matrix(self) -> Float:
        """Return the weights as ``[groups, O, K]``; K runs in the order of ONNX Runtime's kernels."""
        weights = self.weights
        if self.node.op_type == "Conv":
            groups = attribute(self.node, "group", 1)
            ordered = np.moveaxis(weights, 1, -1)
            return ordered.reshape(groups, len(weights) // groups, -1).astype(np.float64)
        return (weights if _is_transposed(self.node) else weights.T)[None].astype(np.float64)

    def from_matrix(self, matrix: Float) -> Weights:
        """Return ``[groups, O, K]`` in the shape of the weights."""
        shape = self.weights.shape
        if self.node.op_type == "Conv":
            ordered = matrix.reshape(shape[0], *shape[2:], shape[1])
            return np.ascontiguousarray(np.moveaxis(ordered, -1, 1), np.float32)
        return np.ascontiguousarray(matrix[0] if _is_transposed(self.node) else matrix[0].T, np.float32)


def measure_inputs(model: FloatModel, images: Split) -> list[LayerInputs]:
    """Return the inputs of every layer whose weights can be rounded by them.

    These are two-dimensional convolutions with explicit padding, and products of a matrix with constant
    weights. The mean is that of all positions, the covariance that of some.

    Args:
        model: The float model.
        images: Images to run it on.
    """
    observer = Observer(model)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.proto.graph.initializer}
    layers = [
        (node, tensors[node.input[1]], _Sums())
        for node in model.proto.graph.node
        if node.op_type in LAYER_TYPES
        and node.input[1] in tensors
        and node.input[0] in observer.tensors
        and _is_known(node, tensors[node.input[1]])
    ]
    random = np.random.default_rng(0)
    with track("Measuring the inputs of layers", len(images)) as advance:
        for activations in observer.batches(images):
            for node, weights, sums in layers:
                values = activations[node.input[0]]
                if node.op_type == "Conv":
                    windows = _Windows(node, weights, values)
                    sums.add(len(values), windows.mean(), windows.sample(random))
                else:
                    rows = values.reshape(-1, values.shape[-1])
                    sums.add(len(values), rows.mean(0)[None], _some(rows, len(values), random)[None])
            advance(len(activations[model.input]))
    return [LayerInputs(node, weights, *sums.moments()) for node, weights, sums in layers]


def _is_known(node: NodeProto, weights: Weights) -> bool:
    if node.op_type == "Conv":
        return weights.ndim == 4 and bool(attribute(node, "auto_pad", b"NOTSET") == b"NOTSET")
    plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1
    return weights.ndim == 2 and plain and not attribute(node, "transA", 0)


class _Sums:
    """Sums over batches, from which mean and covariance follow."""

    def __init__(self) -> None:
        self._images = self._samples = 0
        self._origin: Weights
        self._mean: Float | float = 0.0
        self._first: Float | float = 0.0
        self._second: Float | float | None = 0.0

    def add(self, images: int, mean: Weights, samples: Weights) -> None:
        """Add a batch.

        Args:
            images: Number of images.
            mean: Mean of their inputs, ``[groups, K]``.
            samples: Some of these inputs, ``[groups, samples, K]``.
        """
        self._images += images
        self._mean = self._mean + images * mean.astype(np.float64)
        if self._second is None or samples.shape[2] > LARGEST:
            self._second = None
            return
        if not self._samples:
            self._origin = samples.mean(1)
        self._samples += samples.shape[1]
        near = samples - self._origin[:, None]  # squares of large constants would hide small variances
        self._first = self._first + near.sum(1, dtype=np.float64)
        self._second = self._second + np.matmul(near.transpose(0, 2, 1), near).astype(np.float64)

    def moments(self) -> tuple[Float, Float | None]:
        """Return mean and covariance."""
        mean = np.asarray(self._mean / self._images)
        if self._second is None:
            return mean, None
        middle = np.asarray(self._first / self._samples)
        return mean, self._second / self._samples - middle[:, :, None] * middle[:, None, :]


def _some(rows: Weights, images: int, random: np.random.Generator) -> Weights:
    most = _PER_IMAGE * images
    return rows if len(rows) <= most else rows[random.choice(len(rows), most, replace=False)]


class _Windows:
    """The windows that a convolution reads from a batch of maps."""

    def __init__(self, node: NodeProto, weights: Weights, values: Weights) -> None:
        top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
        self._maps = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
        self._strides = attribute(node, "strides", [1, 1])
        self._groups = attribute(node, "group", 1)
        spread, kernel = attribute(node, "dilations", [1, 1]), weights.shape[2:]
        self._offsets = [np.arange(width) * step for width, step in zip(kernel, spread, strict=True)]
        self._free = [
            (size - offsets[-1] - 1) // stride + 1
            for size, offsets, stride in zip(self._maps.shape[2:], self._offsets, self._strides, strict=True)
        ]

    def mean(self) -> Weights:
        """Return the mean window, ``[groups, K]``."""
        down, across = (stride * free for stride, free in zip(self._strides, self._free, strict=True))
        middle = self._maps.mean(0)
        means = [
            middle[:, row : row + down : self._strides[0], column : column + across : self._strides[1]].mean(
                (1, 2)
            )
            for row in self._offsets[0]
            for column in self._offsets[1]
        ]
        # [positions of the kernel, C] to [groups, positions, C / groups].
        split = np.stack(means).reshape(len(means), self._groups, -1).transpose(1, 0, 2)
        return split.reshape(self._groups, -1)

    def sample(self, random: np.random.Generator) -> Weights:
        """Return some windows of each image, ``[groups, samples, K]``."""
        count = math.prod(self._free)
        chosen = random.choice(count, min(count, _PER_IMAGE), replace=False)
        starts = chosen // self._free[1] * self._strides[0], chosen % self._free[1] * self._strides[1]
        rows = starts[0][:, None, None] + self._offsets[0][:, None]
        columns = starts[1][:, None, None] + self._offsets[1]
        taken = self._maps[:, :, rows, columns]  # [N, C, windows, *kernel]
        images, channels, windows, *kernel = taken.shape
        split = taken.reshape(images, self._groups, channels // self._groups, windows, *kernel)
        ordered = np.ascontiguousarray(split.transpose(1, 0, 3, 4, 5, 2))
        return ordered.reshape(self._groups, images * windows, -1)


def _is_transposed(node: NodeProto) -> bool:
    return node.op_type == "Gemm" and bool(attribute(node, "transB", 0))
