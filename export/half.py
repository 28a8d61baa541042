"""Convert the weights and the arithmetic of an ONNX model to fp16; inputs and outputs stay fp32."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import numpy as np

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.casts import join_casts

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

LARGEST_HALF = 65504.0
# Numbers below this limit are nearer to zero than to the smallest fp16 number, 2**-24.
ROUNDS_TO_ZERO = 2.0**-25


def to_half(model: ModelProto, kept: Collection[str] = ()) -> ModelProto:
    """Return the fp16 form of an fp32 model; applications still pass and read float32.

    Args:
        model: An fp32 model; changed in place.
        kept: Names of nodes that stay in fp32, with their weights.

    Raises:
        ImfDeployError: a weight of another node is too large for fp16.
    """
    from onnx import numpy_helper
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    if kept:
        _separate_weights(model, kept)
        _drop_weight_infos(model)
    exact = {name for node in model.graph.node if node.name in kept for name in node.input}
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        # The converter would clip it silently, and the file would give wrong answers.
        if (
            values.dtype == np.float32
            and tensor.name not in exact
            and np.abs(values).max(initial=0.0) > LARGEST_HALF
        ):
            raise ImfDeployError(
                f"the weights '{tensor.name}' do not fit into fp16 (largest {np.abs(values).max():.3g})",
                "Use `precisions` fp32",
            )
    # Otherwise the converter would raise every tiny weight to the smallest fp16 number.
    flush_tiny(model, ROUNDS_TO_ZERO, exact)
    half: ModelProto = convert_float_to_float16(model, keep_io_types=True, node_block_list=list(kept))
    if kept:
        join_casts(half)
    # The converter appends its casts at the end, but ONNX requires operators in the order of their data.
    OnnxModel(half).topological_sort(is_deterministic=True)
    return half


def flush_tiny(model: ModelProto, limit: float, but: Collection[str] = ()) -> None:
    """Set the float weights of a model whose magnitude is below ``limit`` to zero, in place.

    Args:
        model: The model.
        limit: Smallest magnitude that is kept.
        but: Names of weights that are not changed.
    """
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tiny = (np.abs(values) < limit) & (values != 0) if values.dtype == np.float32 else np.False_
        if tensor.name not in but and tiny.any():
            tensor.CopyFrom(numpy_helper.from_array(np.where(tiny, np.float32(0), values), tensor.name))


def _separate_weights(model: ModelProto, kept: Collection[str]) -> None:
    """Give nodes that stay in fp32 their own copy of weights that other nodes read too, in place."""

    def inputs(nodes: Iterable[NodeProto]) -> set[str]:
        return {name for node in nodes for name in node.input}

    ours = [node for node in model.graph.node if node.name in kept]
    shared = inputs(ours) & inputs(node for node in model.graph.node if node.name not in kept)
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name in shared]:
        copy = model.graph.initializer.add()
        copy.CopyFrom(tensor)
        copy.name = f"{tensor.name}/fp32"
        for node in ours:
            for place, name in enumerate(node.input):
                if name == tensor.name:
                    node.input[place] = copy.name


def _drop_weight_infos(model: ModelProto) -> None:
    """Remove descriptions of weights, in place; the converter would cast weights of fp32 nodes for them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    infos = [value for value in model.graph.value_info if value.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(infos)
