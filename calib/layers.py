"""The operators of a graph that are quantised or left in float one by one, and those always in float."""

from dataclasses import dataclass

from onnx import ModelProto, TensorProto

from imf_deploy.calib.graph_edits import GraphEdits

LAYER_TYPES = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Types of operators that have weights if one operand is a constant."""
_ACTIVATIONS = ("Relu", "Clip")
_RESHAPING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose")
# Their result has the range of their input, and onnxruntime quantises it only if the input is quantised.
_PASSING = (
    *_ACTIVATIONS, *_RESHAPING, "ArgMax", "AveragePool", "Gather", "GatherElements", "MaxPool", "Pad",
    "Resize", "Slice", "Split", "TopK",
)  # fmt: skip
_SQUASHING = ("Softmax", "LogSoftmax", "Sigmoid")


@dataclass(frozen=True)
class Layer:
    """An operator that is quantised or left in float, and the activation that directly follows it.

    Attributes:
        name: Name of the operator's node.
        op_type: For example ``Conv``.
        nodes: Names of the nodes that are quantised or left in float together.
    """

    name: str
    op_type: str
    nodes: tuple[str, ...]


def find_layers(model: ModelProto) -> tuple[Layer, ...]:
    """Return the operators that INT8 can harm, each with the activation that only it feeds.

    These are layers with weights, and every other operator that onnxruntime quantises with its own range.
    Source: ours.

    Args:
        model: Model with a name for each node, and inferred shapes.
    """
    graph, floats = GraphEdits(model), _float_tensors(model)
    others = set(quantisable_types()) - {*LAYER_TYPES, *_PASSING}
    layers = []
    for node in model.graph.node:
        weighted = node.op_type in LAYER_TYPES and any(map(graph.is_constant, node.input[1:2]))
        # A product of two activations has no weights, but its own ranges.
        other = node.op_type in others or (node.op_type == "MatMul" and not weighted)
        if not (weighted or (other and node.output[0] in floats)):
            continue
        following = graph.readers(node.output[0])
        joined = (
            len(following) == 1
            and following[0].op_type in _ACTIVATIONS
            and not graph.is_output(node.output[0])
        )
        names = (node.name, following[0].name) if joined else (node.name,)
        layers.append(Layer(node.name, node.op_type, names))
    return tuple(layers)


def answer_tensors(model: ModelProto) -> set[str]:
    """Return the tensors that contain a graph's answers, which are never rounded to 256 steps.

    These are its outputs, and their values before operators that only reshape, clip or squash them, unless
    another operator also reads them and may need them in 8 bits. Source: ours.

    Args:
        model: Model with a name for each node.
    """
    graph = GraphEdits(model)
    answers: set[str] = set()
    for value in model.graph.output:
        name, passed = value.name, ""
        while all(node.name == passed for node in graph.readers(name)):
            answers.add(name)
            node = graph.producer(name)
            if node is None or node.op_type not in (*_RESHAPING, *_ACTIVATIONS, *_SQUASHING):
                break
            name, passed = node.input[0], node.name
    return answers


def quantisable_types() -> list[str]:
    """Return every operator type that onnxruntime can quantise, for its ``quantize_static``."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QDQRegistry, *QLinearOpsRegistry})


def _float_tensors(model: ModelProto) -> set[str]:
    known = [*model.graph.value_info, *model.graph.output]
    return {value.name for value in known if value.type.tensor_type.elem_type == TensorProto.FLOAT}
