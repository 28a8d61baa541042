"""Convert an ONNX graph from any exporter to the form that quantisation needs, with the same answers."""

import itertools
import re
import tempfile
from pathlib import Path

import onnx
from onnx import ModelProto, helper, inliner, version_converter

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.onnx_file import read_model
from imf_deploy.portability.session import cpu_session
from imf_deploy.untrusted import shorten

OPSET = 13
"""The first opset whose Q/DQ operators have a scale for each channel; older files are upgraded to it."""
_IR = 8
_RESIZE_WITH_MODES = 11
_PLACE = re.compile(r"^.{,300}? failed: ?")
# A separate batch norm would be quantised separately, and weights behind a node are not constants.
_FOLDED = ("BatchNormalization", "Constant", "Dropout", "Identity")


def prepare(path: Path) -> ModelProto:
    """Return the graph of a file with its weights, names for all nodes, and inferred shapes.

    Files older than :data:`OPSET` are upgraded. Weights become initializers if they are inputs, constants or
    behind other operators; batch norm is folded; functions are inlined; a batch of -1 is free.

    Raises:
        ImfDeployError: the file is damaged, or ONNX or ONNX Runtime cannot convert it to this form.
    """
    model = read_model(path)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        if model.functions:
            model = inliner.inline_local_functions(model)
        _take_weights_from_inputs(model)
        _free_negative_sizes(model)
        if _opset(model) < OPSET:
            model = _upgraded(path, model)
        if _wants_folding(model):
            model = _folded(model)
        _name_nodes(model)
        inferred = _with_shapes(model)
    except ImfDeployError:
        raise
    except Exception as error:  # ONNX and ONNX Runtime may raise anything
        raise ImfDeployError(
            f"{path} cannot be prepared for quantisation ({_reason(error)})", "Export it again"
        ) from error
    # This tells onnxruntime.quantization that shapes are inferred.
    inferred.metadata_props.add(key="onnx.infer", value="onnxruntime.quant")
    return inferred


def _opset(model: ModelProto) -> int:
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def _take_weights_from_inputs(model: ModelProto) -> None:
    """Remove weights from the inputs, where IR 3 lists them and runtimes expect a value for them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, _IR)


def _free_negative_sizes(model: ModelProto) -> None:
    """Name sizes below zero, which some exporters write for free ones."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for place, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value < 0:
                dim.dim_param = "batch" if place == 0 else f"{value.name}_{place}"


def _upgraded(path: Path, model: ModelProto) -> ModelProto:
    """Return the model in opset 13, by ONNX's own converter.

    Raises:
        ImfDeployError: the converter does not know an operator.
    """
    try:
        upgraded = version_converter.convert_version(model, OPSET)
    except Exception as error:  # its errors share no base class
        raise ImfDeployError(
            f"{path} has opset {_opset(model)}, INT8 needs {OPSET} or newer, and ONNX {onnx.__version__} "
            f"cannot upgrade it ({_reason(error)})",
            f"Export it again with opset {OPSET} or newer",
        ) from error
    if _opset(model) < _RESIZE_WITH_MODES:
        _resize_as_before(upgraded)
    return upgraded


def _resize_as_before(model: ModelProto) -> None:
    """Let ``Resize`` sample as older opsets do; the converter leaves it the default of newer ones."""
    for node in model.graph.node:
        if node.op_type == "Resize":
            modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            kept = [attribute for attribute in node.attribute if attribute.name not in modes]
            del node.attribute[:]
            node.attribute.extend([*kept, *(helper.make_attribute(*mode) for mode in modes.items())])


def _wants_folding(model: ModelProto) -> bool:
    """Return whether a graph has batch norm, or weights that are not initializers of their layers."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return any(
        node.op_type in _FOLDED or (node.input and all(name in weights for name in node.input if name))
        for node in model.graph.node
    )


def _folded(model: ModelProto) -> ModelProto:
    """Return the model after ONNX Runtime's basic optimisations, which keep to standard operators."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "model.onnx", Path(folder) / "folded.onnx"
        onnx.save(model, source)
        cpu_session(source, "ORT_ENABLE_BASIC", optimised=output)
        folded: ModelProto = onnx.load(output)
    return folded


def _name_nodes(model: ModelProto) -> None:
    """Give every node a unique name."""
    taken = {node.name for node in model.graph.node}
    seen = {""}
    for index, node in enumerate(model.graph.node):
        if node.name in seen:
            base = f"{node.op_type}_{index}"
            numbered = (f"{base}_{again}" for again in itertools.count())
            node.name = next(name for name in itertools.chain([base], numbered) if name not in taken)
            taken.add(node.name)
        seen.add(node.name)


def _with_shapes(model: ModelProto) -> ModelProto:
    """Return the model with inferred shapes; its own shapes are dropped if they contradict them."""
    try:
        inferred: ModelProto = onnx.shape_inference.infer_shapes(model)
    except onnx.shape_inference.InferenceError:
        del model.graph.value_info[:]
        inferred = onnx.shape_inference.infer_shapes(model)
    return inferred


def _reason(error: Exception) -> str:
    """Return the first line of an error, without the source line or temporary file at its beginning."""
    return shorten(_PLACE.sub("", str(error))) or type(error).__name__
