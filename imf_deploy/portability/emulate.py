"""The sums of x86 processors without VNNI, computed in integers on any processor.

Each saturating operator is computed by :mod:`imf_deploy.portability.kernels`; everything between such
operators runs in ONNX Runtime, whose other kernels give the same integers everywhere.
"""

from itertools import groupby
from typing import Any

from onnx import ModelProto, NodeProto, helper

from imf_deploy.portability.graph import Session, constant_values
from imf_deploy.portability.kernels import OPERATORS, Array
from imf_deploy.portability.products import graphs_of
from imf_deploy.portability.session import cpu_session


class Emulator:
    """Runs a file with the sums of a processor without VNNI, or with exact sums.

    Args:
        session: The operators that a session runs.
        saturate: Whether sums of two products saturate in 16 bits; otherwise all are exact.
    """

    def __init__(self, session: Session, saturate: bool) -> None:
        self._saturate = saturate
        self._constants = constant_values(session.model)
        self._outputs = [value.name for value in session.model.graph.output]
        self._inputs = [
            value.name for value in session.model.graph.input if value.name not in self._constants
        ]
        self._steps: list[_Segment | NodeProto] = []
        groups = groupby(session.model.graph.node, lambda node: node.name in session.saturating)
        for saturating, nodes in groups:
            self._steps += list(nodes) if saturating else [_Segment(session.model, list(nodes))]
        needed = set(self._outputs)
        for step in reversed(self._steps):
            if isinstance(step, _Segment):
                step.keep(needed)
                needed |= set(step.reads)
            else:
                needed |= set(step.input)

    def run(self, batch: Array) -> list[Array]:
        """Return the outputs of the file for one batch of its one input."""
        values: dict[str, Array] = {**self._constants, self._inputs[0]: batch}
        for step in self._steps:
            if isinstance(step, _Segment):
                values |= step.run(values)
            else:
                operands = [values[name] if name else None for name in step.input]
                values[step.output[0]] = OPERATORS[step.op_type](step, operands, self._saturate)
        return [values[name] for name in self._outputs]


class _Segment:
    """Neighbouring operators that all processors compute alike, run by ONNX Runtime."""

    def __init__(self, model: ModelProto, nodes: list[NodeProto]) -> None:
        self._model, self._nodes, self._session = model, nodes, None
        produced = {name for node in nodes for name in node.output}
        self._produced = [name for node in nodes for name in node.output if name]
        # Graphs inside a node read names of this graph; their own names are not found and are left out.
        readers = [inner for node in nodes for graph in graphs_of(node) for inner in graph.node]
        read = [name for node in (*nodes, *readers) for name in node.input]
        self.reads = [name for name in dict.fromkeys(read) if name and name not in produced]
        self._kept: list[str] = []

    def keep(self, needed: set[str]) -> None:
        """Choose the results to compute."""
        self._kept = [name for name in self._produced if name in needed]

    def run(self, values: dict[str, Array]) -> dict[str, Array]:
        if not self._kept:
            return {}
        if self._session is None:
            self._open(values)
        session: Any = self._session
        given = {value.name: values[value.name] for value in session.get_inputs()}
        return dict(zip(self._kept, session.run(self._kept, given), strict=True))

    def _open(self, values: dict[str, Array]) -> None:
        tensors = [tensor for tensor in self._model.graph.initializer if tensor.name in self.reads]
        constants = {tensor.name for tensor in tensors}
        inputs = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(values[name].dtype), [None] * values[name].ndim
            )
            for name in self.reads
            if name not in constants and name in values
        ]
        outputs = [helper.make_empty_tensor_value_info(name) for name in self._kept]
        model = helper.make_model(
            helper.make_graph(self._nodes, "segment", inputs, outputs, tensors),
            opset_imports=list(self._model.opset_import),
            ir_version=self._model.ir_version,
            functions=list(self._model.functions),
        )
        self._session = cpu_session(model.SerializeToString())
