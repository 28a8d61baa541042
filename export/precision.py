"""Determine the precision of an ONNX graph from its weights and operators, from any exporter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto, ValueInfoProto

_DYNAMIC = re.compile(r"DynamicQuantize.*|ConvInteger.*|MatMulInteger.*")
_STATIC = re.compile(r"QuantizeLinear|QLinear.*|QGemm|QAttention|QOrdered.*")
# Weights in blocks with a scale each; activations stay float.
_BLOCKS = ("MatMulNBits", "GatherBlockQuantized", "MatMulBnb4")
_FLOATS = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16", "DOUBLE": "float64"}


def precision_of(
    nodes: Iterable[NodeProto], tensors: Sequence[TensorProto], inputs: Iterable[ValueInfoProto]
) -> str:
    """Return the precision that a graph computes in.

    ``fp32``, ``fp16``, ``bf16`` or ``float64`` is the type of its weights; if there are two types, both are
    named, as ``mixed (bf16, fp32)``. ``int8`` has fixed ranges, in Q/DQ or in integer operators; ``float8``
    is Q/DQ of that type. ``int8 (dynamic)`` computes the ranges from each input. In ``int8 weights``, ``int4
    weights`` and so on only the weights are quantised.

    Args:
        nodes: All operators, including those of subgraphs and functions.
        tensors: All stored tensors: initializers and constants.
        inputs: Inputs of the graph, whose type counts if no float is stored.
    """
    nodes = list(nodes)
    operators = {node.op_type for node in nodes}
    if any(map(_DYNAMIC.fullmatch, operators)):
        return "int8 (dynamic)"
    if any(map(_STATIC.fullmatch, operators)):
        return "float8" if any("FLOAT8" in _type_name(tensor) for tensor in tensors) else "int8"
    if "DequantizeLinear" in operators:
        return f"{_narrowest(tensors)} weights"
    if bits := {_bits(node) for node in nodes if node.op_type in _BLOCKS}:
        return f"{', '.join(f'int{count}' for count in sorted(bits))} weights"
    kinds = (  # the types of matrices and kernels; if there are none, of all tensors
        _known(tensor.data_type for tensor in tensors if len(tensor.dims) > 1)
        or _known(tensor.data_type for tensor in tensors)
        or _known(value.type.tensor_type.elem_type for value in inputs)
    )
    return f"mixed ({', '.join(sorted(kinds))})" if len(kinds) > 1 else next(iter(kinds), "fp32")


def is_stated(precision: str, stated: str) -> bool:
    """Return whether a graph's precision is the one that a record or metadata states.

    Layers of an fp16 file may stay in fp32.
    """
    return precision == stated or (precision, stated) == ("mixed (fp16, fp32)", "fp16")


def _known(types: Iterable[int]) -> set[str]:
    from onnx import TensorProto

    names = {TensorProto.DataType.Value(name): precision for name, precision in _FLOATS.items()}
    return {names[kind] for kind in types if kind in names}


def _narrowest(tensors: Sequence[TensorProto]) -> str:
    """Return the narrowest type of stored weights: biases are int32, and shapes int64."""
    matches = [re.fullmatch(r"U?(INT|FLOAT)([248])(E.*)?", _type_name(tensor)) for tensor in tensors]
    integers = [(int(match[2]), match[1].lower()) for match in matches if match]
    bits, kind = min(integers, default=(8, "int"))
    return f"{kind}{bits}"


def _type_name(tensor: TensorProto) -> str:
    from onnx import TensorProto as Proto

    names: dict[int, str] = {number: name for name, number in Proto.DataType.items()}
    return names.get(tensor.data_type, "")


def _bits(node: NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "bits"), 4)
