"""Read an ONNX graph by its tensors, and edit the Q/DQ of a quantised one."""

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, helper, numpy_helper


class GraphEdits:
    """Indexes of a graph; they include the pairs that are added through this class.

    Args:
        model: Model with weights as initializers; edited in place.
    """

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._graph = model.graph
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._outputs = {value.name for value in model.graph.output}
        self._producers: dict[str, tuple[int, NodeProto]] = {
            name: (index, node) for index, node in enumerate(model.graph.node) for name in node.output
        }
        self._readers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in dict.fromkeys(node.input):
                self._readers.setdefault(name, []).append(node)

    def producer(self, name: str) -> NodeProto | None:
        """Return the node that computes a tensor; ``None`` for inputs and weights."""
        entry = self._producers.get(name)
        return entry[1] if entry else None

    def position(self, name: str) -> int:
        """Return the position of a tensor's node in the order of the graph."""
        return self._producers[name][0]

    def readers(self, name: str) -> list[NodeProto]:
        """Return the nodes that read a tensor."""
        return [node for node in self._readers.get(name, []) if name in node.input]

    def is_output(self, name: str) -> bool:
        """Return whether a tensor is an output of the graph."""
        return name in self._outputs

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """Return the value of a weight; ``None`` for other tensors."""
        return numpy_helper.to_array(self._tensors[name]) if self.is_constant(name) else None

    def is_constant(self, name: str) -> bool:
        """Return whether a tensor is a weight."""
        return name in self._tensors

    def is_dequantised(self, name: str) -> bool:
        """Return whether a tensor comes from a DQ."""
        source = self.producer(name)
        return source is not None and source.op_type == "DequantizeLinear"

    def dequantised_form(self, name: str) -> str:
        """Return the output of the Q/DQ pair that a tensor already has, or an empty string."""
        for quantize in self.readers(name):
            if quantize.op_type == "QuantizeLinear":
                for dequantize in self.readers(quantize.output[0]):
                    if dequantize.op_type == "DequantizeLinear":
                        output: str = dequantize.output[0]
                        return output
        return ""

    def add_pair(self, name: str, scale: float) -> str:
        """Quantise a tensor with a symmetric scale; return the output of its new Q/DQ pair."""
        for kind, value in (("scale", np.float32(scale)), ("zero_point", np.int8(0))):
            tensor = numpy_helper.from_array(np.array(value), f"{name}_{kind}")
            self._graph.initializer.append(tensor)
            self._tensors[tensor.name] = tensor
        previous = name
        for kind in ("QuantizeLinear", "DequantizeLinear"):
            output = f"{name}_{kind}_Output"
            inputs = [previous, f"{name}_scale", f"{name}_zero_point"]
            self._graph.node.append(helper.make_node(kind, inputs, [output], name=f"{name}_{kind}"))
            self._producers[output] = (len(self._graph.node) - 1, self._graph.node[-1])
            self._readers.setdefault(previous, []).append(self._graph.node[-1])
            previous = output
        return previous

    def sort(self) -> None:
        """Put the nodes back in the order of their data."""
        from onnxruntime.transformers.onnx_model import OnnxModel

        OnnxModel(self._model).topological_sort(is_deterministic=True)
