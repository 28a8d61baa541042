"""The operators of a graph that are quantised or left in float one by one, and those always in float."""

from dataclasses import dataclass

from onnx import ModelProto, NodeProto, TensorProto

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
# Its result is rounded only where a layer reads it, like that of ReduceMean, which means the same.
_NEVER_ALONE = ("GlobalAveragePool",)
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
    others, inner = set(quantisable_types()) - {*LAYER_TYPES, *_PASSING}, gelu_nodes(model)
    layers = []
    for node in model.graph.node:
        if node.name in inner:
            continue
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


def gelu_nodes(model: ModelProto) -> set[str]:
    """Return the nodes that compute GELU, which opsets before 20 write as ``x / 2 * (1 + erf(x / sqrt(2)))``.

    Its sums and products are not layers: onnxruntime fuses them into one operator, as long as nothing between
    them is quantised. Source: the definition of ``Gelu`` in ONNX; which factor is multiplied first is free.

    Args:
        model: Model with a name for each node.
    """
    graph = GraphEdits(model)
    found: set[str] = set()
    for erf in model.graph.node:
        scaled = graph.producer(erf.input[0]) if erf.op_type == "Erf" else None
        if scaled is None or scaled.op_type not in ("Div", "Mul"):
            continue
        source = next((name for name in scaled.input if not graph.is_constant(name)), "")
        chain, last, multiplied = [scaled, erf], erf, False
        # 1 is added, and 1/2 and the source are multiplied, in any order.
        while len(following := graph.readers(last.output[0])) == 1:
            before, last = last.output[0], following[0]
            other = next((name for name in last.input if name != before), "")
            half = graph.producer(other)
            if last.op_type not in ("Add", "Mul"):
                break
            if half is not None and half.op_type == "Mul" and _scales(graph, half, source):
                chain.append(half)
            elif other != source and not _is_scalar(graph, other):
                break
            multiplied = multiplied or not graph.is_constant(other)
            chain.append(last)
        if multiplied:
            found.update(node.name for node in chain)
    return found


def _scales(graph: GraphEdits, node: NodeProto, source: str) -> bool:
    """Return whether a node multiplies a tensor by a scalar."""
    return source in node.input and any(_is_scalar(graph, name) for name in node.input)


def _is_scalar(graph: GraphEdits, name: str) -> bool:
    value = graph.constant(name)
    return value is not None and value.size == 1


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
    """Return the operator types that are quantised, of those that onnxruntime can quantise."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QDQRegistry, *QLinearOpsRegistry} - set(_NEVER_ALONE))


def _float_tensors(model: ModelProto) -> set[str]:
    known = [*model.graph.value_info, *model.graph.output]
    return {value.name for value in known if value.type.tensor_type.elem_type == TensorProto.FLOAT}
