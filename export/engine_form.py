"""The form in which TensorRT reads an ONNX file: what an INT8 file does not quantise becomes fp16.

The file itself keeps float32, which every runtime on a CPU computes quickly and correctly. Engines are
strongly typed, so operators that stay in float would run in float32 there.
"""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.external_data_helper import load_external_data_for_model

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.half import LARGEST_HALF, to_half
from imf_deploy.export.onnx_file import read_model
from imf_deploy.export.opset import raise_opset

Floats = Literal["fp16", "fp32"]
"""The type that an engine computes in where an INT8 file is not quantised."""

ENGINE_FLOATS = "engine_floats"
"""Key in the ``quantization`` metadata of an INT8 file for TensorRT."""
HALF_QDQ_OPSET = 19
"""The first opset whose Q/DQ operators accept fp16."""

_SMALLEST_HALF = 2.0**-24
LEVELS = 127
"""Largest int8 value of files for TensorRT; the smallest is never used, so that scales are symmetric."""


def engine_source(path: Path) -> bytes | None:
    """Return the model that TensorRT parses instead of a file; ``None`` if it parses the file itself.

    Args:
        path: ONNX file, whose metadata says whether its engine computes in fp16 between INT8 layers.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: the file is damaged.
    """
    model = read_model(path)
    if _floats({entry.key: entry.value for entry in model.metadata_props}) != "fp16":
        return None
    load_external_data_for_model(model, str(path.parent))
    source: bytes = half_form(model).SerializeToString(deterministic=True)
    return source


def half_form(model: ModelProto) -> ModelProto:
    """Return the fp16 form of an INT8 model with Q/DQ; inputs and outputs stay fp32.

    Its opset is at least :data:`HALF_QDQ_OPSET`, whatever the file has for other runtimes.

    Args:
        model: Model that is float32 where it is not quantised; may be changed in place.

    Raises:
        ImfDeployError: a weight or a scale is too large for fp16, or the opset cannot be raised.
    """
    model = raise_opset(model, HALF_QDQ_OPSET)
    _drop_identities(model)
    _round_scales(model)
    return to_half(model)


def _floats(metadata: dict[str, str]) -> str:
    try:
        about = json.loads(metadata.get("quantization", "{}"))
    except (ValueError, RecursionError):
        return ""
    return str(about.get(ENGINE_FLOATS, "")) if isinstance(about, dict) else ""


def _drop_identities(model: ModelProto) -> None:
    """Remove ``LeakyRelu`` with a slope of 1, in place; it is only needed in ONNX Runtime."""
    identities = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "LeakyRelu" and any(a.name == "alpha" and a.f == 1 for a in node.attribute)
    }
    for value in model.graph.output:
        identities.pop(value.name, None)
    nodes = [node for node in model.graph.node if not set(node.output) & identities.keys()]
    for node in nodes:
        for place, name in enumerate(node.input):
            node.input[place] = identities.get(name, name)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _round_scales(model: ModelProto) -> None:
    """Round every scale to an fp16 number above zero, and int8 weights to their new scales, in place.

    Otherwise, a scale near the smallest fp16 number could change by half, or become zero, in the conversion.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.input[1] not in tensors:
            continue
        scales = tensors[node.input[1]]
        exact = numpy_helper.to_array(scales)
        if not np.isfinite(exact).all() or exact.max(initial=0) > LARGEST_HALF:
            raise ImfDeployError(f"the scale '{scales.name}' does not fit into fp16", "Use `precisions` fp32")
        rounded = np.maximum(exact.astype(np.float16).astype(np.float32), np.float32(_SMALLEST_HALF))
        if np.array_equal(rounded, exact):
            continue
        scales.CopyFrom(numpy_helper.from_array(rounded, scales.name))
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors:
            _requantise(node, tensors[node.input[0]], exact / rounded)


def _requantise(node: NodeProto, weights: TensorProto, ratio: npt.NDArray[np.float32]) -> None:
    """Round int8 weights again after their scales were divided by ``ratio``, in place."""
    levels = numpy_helper.to_array(weights)
    if ratio.ndim:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        ratio = ratio.reshape([-1 if place == axis % levels.ndim else 1 for place in range(levels.ndim)])
    again = np.clip(np.rint(levels * ratio), -LEVELS, LEVELS).astype(levels.dtype)
    weights.CopyFrom(numpy_helper.from_array(again, weights.name))
