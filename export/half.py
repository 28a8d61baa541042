"""Convert the weights and the arithmetic of an ONNX model to fp16; inputs and outputs stay fp32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imf_deploy.errors import ImfDeployError

if TYPE_CHECKING:
    from onnx import ModelProto

LARGEST_HALF = 65504.0
# Numbers below this limit are nearer to zero than to the smallest fp16 number, 2**-24.
ROUNDS_TO_ZERO = 2.0**-25


def to_half(model: ModelProto) -> ModelProto:
    """Return the fp16 form of an fp32 model; applications still pass and read float32.

    Args:
        model: An fp32 model; changed in place.

    Raises:
        ImfDeployError: a weight is too large for fp16.
    """
    from onnx import numpy_helper
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        # The converter would clip it silently, and the file would give wrong answers.
        if values.dtype == np.float32 and np.abs(values).max(initial=0.0) > LARGEST_HALF:
            raise ImfDeployError(
                f"the weights '{tensor.name}' do not fit into fp16 (largest {np.abs(values).max():.3g})",
                "Use `precisions` fp32",
            )
    # Otherwise the converter would raise every tiny weight to the smallest fp16 number.
    flush_tiny(model, ROUNDS_TO_ZERO)
    half: ModelProto = convert_float_to_float16(model, keep_io_types=True)
    # The converter appends its casts at the end, but ONNX requires operators in the order of their data.
    OnnxModel(half).topological_sort(is_deterministic=True)
    return half


def flush_tiny(model: ModelProto, limit: float) -> None:
    """Set the float weights of a model whose magnitude is below ``limit`` to zero, in place."""
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tiny = (np.abs(values) < limit) & (values != 0) if values.dtype == np.float32 else np.False_
        if tiny.any():
            tensor.CopyFrom(numpy_helper.from_array(np.where(tiny, np.float32(0), values), tensor.name))
