"""Write a float model as INT8 with explicit Q/DQ, from one set of ranges for either target."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from onnx import ModelProto

from imf_deploy.calib.bound import Scales, as_overrides, bound_weights, find_scales, own_weights
from imf_deploy.calib.float_layers import keep_in_float
from imf_deploy.calib.layers import LAYER_TYPES, Layer, answer_tensors, gelu_nodes, quantisable_types
from imf_deploy.calib.model import FloatModel
from imf_deploy.calib.placement import Placement
from imf_deploy.calib.ranges import Ranges
from imf_deploy.calib.rounding import Rounding, apply_rounding
from imf_deploy.errors import ImfDeployError, first_line
from imf_deploy.export.portable import set_header
from imf_deploy.settings.quantize import Cpus, Target

T = TypeVar("T")
PLACEMENT = Placement()
"""The form with the fastest engines."""


@dataclass(frozen=True)
class _Form:
    """The form of Q/DQ that a target needs.

    Attributes:
        signed: Whether activations are int8; otherwise uint8.
        operators: Types to quantise; ``None`` uses every type that onnxruntime can quantise.
        options: ``extra_options`` of ``onnxruntime.quantization``.
    """

    signed: bool
    operators: tuple[str, ...]
    options: dict[str, Any]


_FORMS: dict[Target, _Form] = {
    # With asymmetric uint8, activation functions disappear into the ranges.
    "onnxruntime-cpu": _Form(False, (), {"WeightSymmetric": True}),
    # TensorRT accepts no other zero point than 0 and no int32 biases. Only the inputs of layers are
    # quantised, as NVIDIA's guide recommends: TensorRT fuses the operators between a layer and the next Q.
    "tensorrt": _Form(
        True,
        LAYER_TYPES,
        {
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": list(LAYER_TYPES),
        },
    ),
}


def layers_of(model: FloatModel, target: Target) -> tuple[Layer, ...]:
    """Return the layers of a model that a target's form quantises, in the order of the graph."""
    operators = _FORMS[target].operators
    return tuple(layer for layer in model.layers if not operators or layer.op_type in operators)


def quantize(
    model: FloatModel,
    ranges: Ranges,
    target: Target,
    excluded: Collection[str] = (),
    only: Layer | None = None,
    metadata: dict[str, str] | None = None,
    cpus: Cpus = "all",
    placement: Placement = PLACEMENT,
    rounding: Rounding | None = None,
) -> bytes:
    """Return a model as serialised INT8 ONNX; the same arguments give the same bytes.

    Weights are int8, symmetric, with one scale for each output channel. For ONNX Runtime's CPU provider no
    pair of them can saturate on a processor without VNNI, unless the file is only for processors with VNNI.
    The outputs are not rounded: 256 steps would cause ties between classes, and float is free for the
    operator that computes them.

    Args:
        model: The float model; not changed.
        ranges: Ranges from :func:`imf_deploy.calib.ranges.measure_ranges`.
        target: The runtime of the file.
        excluded: Names of layers that stay in float.
        only: Quantise only this layer.
        metadata: Key-value pairs of the file; by default the model's own with another precision.
        cpus: Processors that the file is for, if ONNX Runtime's CPU provider runs it.
        placement: Positions of Q/DQ besides the inputs of layers, in a file for TensorRT.
        rounding: Weights that are rounded already, by layer; others are rounded to the nearest step.

    Raises:
        ImfDeployError: onnxruntime.quantization cannot write the model.
    """
    from onnx.helper import set_model_props
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.transformers.onnx_model import OnnxModel

    form = _FORMS[target]
    kept = [layer for layer in model.layers if layer.name in excluded]
    proto, bounded = _copy(model.proto), target == "onnxruntime-cpu" and cpus == "all"
    options = dict(form.options)
    if bounded or rounding:
        own_weights(proto)
    scales = dict(bounded_weights(model)) if bounded else {}
    if rounding:
        left = {node for layer in kept for node in layer.nodes}
        chosen = only.nodes if only else [node.name for node in proto.graph.node if node.name not in left]
        scales |= apply_rounding(proto, rounding, chosen)
    tensors = _tensors_of(proto, only)
    if scales:
        options["TensorQuantOverrides"] = as_overrides(proto, _only(tensors, scales))
    floats = _copy(proto)  # the quantiser changes its input
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it warns about every tensor that it leaves in float
    try:
        quantizer = QDQQuantizer(
            proto,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if form.signed else QuantType.QUInt8,
            tensors_range=_tensor_data(_only(tensors, ranges)),
            nodes_to_quantize=list(only.nodes) if only else [],
            nodes_to_exclude=[*(node for layer in kept for node in layer.nodes), *sorted(gelu_nodes(proto))],
            op_types_to_quantize=list(form.operators) or quantisable_types(),
            extra_options=options,
        )
        for name in answer_tensors(proto):
            # It quantises no tensor whose type it does not know, even if requested.
            quantizer.value_infos.pop(name, None)
        quantizer.quantize_model()
        written: ModelProto = quantizer.model.model
    except Exception as error:  # it may raise anything, with the tensor in the message
        raise ImfDeployError(
            f"{model.artifact.path} cannot be quantised for {target} ({first_line(error)})",
            "Use fp32 or fp16 for this model",
        ) from error
    finally:
        logging.disable(before)
    if bounded:
        bound_weights(written, floats)
    if target == "tensorrt" and only is None:
        placement.apply(written, ranges)
    keep_in_float(written, {layer.name for layer in kept})
    # The quantiser appends its nodes at the end, but ONNX requires operators in the order of their data.
    OnnxModel(written).topological_sort(is_deterministic=True)
    entries = model.metadata | {"precision": "int8"} if metadata is None else metadata
    set_header(written)
    set_model_props(written, dict(sorted(entries.items())))
    serialised: bytes = written.SerializeToString(deterministic=True)
    return serialised


@lru_cache(maxsize=1)
def bounded_weights(model: FloatModel) -> Scales:
    """Return the scales of weights whose pairs cannot saturate; a model is quantised many times."""
    proto = _copy(model.proto)
    own_weights(proto)
    return find_scales(proto)


def int8_metadata(model: FloatModel, about: dict[str, Any]) -> dict[str, str]:
    """Return the metadata of an INT8 file: its model's, with new ``precision`` and ``quantization``.

    A file for TensorRT says so in ``runtime``, because other runtimes load it and answer otherwise. The
    metadata includes the preprocessing and the classes, even if they were given separately. Accuracies
    become ``float_accuracy`` and so on, because they are not those of this file.
    """
    kept = {
        f"float_{key}" if key in ("accuracy", "validation_accuracy") else key: value
        for key, value in model.metadata.items()
    }
    return kept | {
        **model.preprocess.metadata(),
        **({"runtime": "TensorRT alone"} if about["target"] == "tensorrt" else {}),
        "precision": "int8",
        "quantization": json.dumps(about, ensure_ascii=False, sort_keys=True),
    }


def _copy(proto: ModelProto) -> ModelProto:
    copied = ModelProto()
    copied.CopyFrom(proto)
    return copied


def _tensors_of(proto: ModelProto, layer: Layer | None) -> set[str] | None:
    """Return the tensors that a layer reads and writes; ``None`` for all of the model's."""
    if layer is None:
        return None
    nodes = [node for node in proto.graph.node if node.name in layer.nodes]
    return {name for node in nodes for name in (*node.input, *node.output)}


def _only(tensors: set[str] | None, values: Mapping[str, T]) -> dict[str, T]:
    """Return the values of some tensors only; the quantiser is slow for every one that it is given."""
    return {name: value for name, value in values.items() if tensors is None or name in tensors}


def _tensor_data(ranges: Ranges) -> dict[str, Any]:
    import numpy as np
    from onnxruntime.quantization.calibrate import TensorData

    return {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
