"""The graph that ONNX Runtime's CPU provider runs for a file, and which of its operators can saturate."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

from imf_deploy.portability.pairs import can_saturate
from imf_deploy.portability.products import (
    EMULATED,
    UNKNOWN,
    inner_graphs,
    is_uint8,
    weight_matrix,
    weights_index,
    zero_index,
)
from imf_deploy.portability.session import cpu_session

# Fused forms of MatMulInteger with float sums: as separate operators, their integers can be emulated.
_APART = ["DynamicQuantizeMatMulFusion", "MatMulIntegerToFloatFusion"]


@dataclass(frozen=True)
class Session:
    """The operators that a session runs, after it has decided what computes in integers.

    Attributes:
        model: The optimised graph, before memory layouts are chosen for this processor.
        saturating: Names of the nodes that some input makes saturate on processors without VNNI.
        unknown: Operators with int8 weights whose sums this module does not support.
    """

    model: ModelProto
    saturating: frozenset[str]
    unknown: tuple[str, ...]


def open_session_graph(path: Path) -> Session:
    """Return the graph that a session with default options runs for an ONNX file.

    Args:
        path: The file, which must load.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        # The next level chooses layouts; fusing into integer operators is complete at this level.
        cpu_session(path, "ORT_ENABLE_EXTENDED", optimised=optimised, disabled=_APART)
        model = onnx.load(optimised, load_external_data=False)
        onnx.load_external_data_for_model(model, str(path.parent))
    for index, node in enumerate(model.graph.node):
        node.name = f"{index}:{node.name}"
    constants = constant_values(model)
    producers = {name: node for node in model.graph.node for name in node.output}
    saturating = {node.name for node in model.graph.node if _can_saturate(node, constants, producers)}
    inner = {node.op_type for part in inner_graphs(model.graph) for node in part.node}
    unknown = {node.op_type for node in model.graph.node if node.op_type in UNKNOWN}
    # Nothing is emulated inside a loop or a branch.
    unknown |= inner & {*UNKNOWN, *EMULATED}
    return Session(model, frozenset(saturating), tuple(sorted(unknown)))


def constant_values(model: ModelProto) -> dict[str, npt.NDArray[Any]]:
    """Return the constants of a graph by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _can_saturate(
    node: NodeProto, constants: Mapping[str, npt.NDArray[Any]], producers: Mapping[str, NodeProto]
) -> bool:
    if node.op_type not in EMULATED:
        return False
    zero = constants.get(node.input[zero_index(node)]) if len(node.input) > zero_index(node) else None
    if zero is not None and zero.dtype == np.int8:
        return False  # products of two int8 are added in 32 bits
    name = node.input[weights_index(node)]
    if name not in constants:  # the product of two activations
        return not is_uint8(name, producers, constants)
    weights = constants[name]
    if weights.dtype != np.int8:
        return False  # products of two uint8 are added in 32 bits
    matrix = weight_matrix(node, weights)
    return matrix is not None and bool(can_saturate(matrix).any())
