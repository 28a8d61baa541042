"""Write a PyTorch classifier as one self-contained ONNX file."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from imf_deploy.errors import ImfDeployError, first_line
from imf_deploy.export.half import flush_tiny, to_half
from imf_deploy.export.half_fit import find_kept
from imf_deploy.export.onnx_file import OnnxInfo, default_opset, describe_onnx, messages
from imf_deploy.export.opset import OPSET, TRACED_OPSET, lower_opset
from imf_deploy.export.portable import set_header, simplify, split_gemm
from imf_deploy.files import write_bytes
from imf_deploy.image_size import ImageSize, shape_of
from imf_deploy.tasks.names import INPUT, OUTPUT

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

OnnxPrecision = Literal["fp32", "fp16"]

FORM = 2
"""Number of the form of graphs; it changes if the same module and options give other graphs."""
BATCH = "batch"
# The product of two such weights is the smallest normal float32. Smaller numbers are denormal, which makes a
# network an order of magnitude slower on a CPU.
TINY = 2.0**-63


def export_onnx(
    module: nn.Module,
    path: Path,
    precision: OnnxPrecision,
    image_size: ImageSize,
    metadata: Mapping[str, str],
    opset: int | None = None,
) -> OnnxInfo:
    """Write ``module`` to ``path``, atomically: ``images [batch, C, H, W]`` -> ``logits [batch, classes]``.

    Batch norm is folded into convolutions, the batch is dynamic, and inputs and outputs are float32 in both
    precisions. Nodes whose weights do not fit into fp16 stay in fp32. The same module gives the same bytes.

    Args:
        module: Module in eval mode, float32; it is copied, not changed.
        path: Output file.
        precision: Precision of weights and arithmetic.
        image_size: Size of the images.
        metadata: Key-value pairs to store in the file.
        opset: See :func:`trace_onnx`.

    Returns:
        A description of the written file.

    Raises:
        ValueError: the module is in training mode.
        ImfDeployError: the module cannot be exported in this form, or the file cannot be written.
    """
    traced = trace_onnx(module, image_size, opset)
    kept = [node.node for node in find_kept(traced)] if precision == "fp16" else []
    return save_onnx(traced, path, precision, metadata, kept)


def save_onnx(
    traced: ModelProto,
    path: Path,
    precision: OnnxPrecision,
    metadata: Mapping[str, str],
    kept: Collection[str] = (),
) -> OnnxInfo:
    """Write the result of :func:`trace_onnx` in one precision; see :func:`export_onnx`.

    Args:
        traced: Model in fp32; not changed, so that one trace serves every precision.
        path: Output file.
        precision: Precision of weights and arithmetic.
        metadata: Key-value pairs to store in the file.
        kept: Names of nodes that stay in fp32 in an fp16 file.
    """
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(traced)
    flush_tiny(model, TINY)
    if precision == "fp16":
        model = to_half(model, kept)
        split_gemm(model)
    set_header(model)
    _clear_notes(model)
    onnx.helper.set_model_props(model, dict(sorted(metadata.items())))
    _check(model)
    write_bytes(path, model.SerializeToString(deterministic=True))
    return describe_onnx(path)


def trace_onnx(module: nn.Module, image_size: ImageSize, opset: int | None = None) -> ModelProto:
    """Trace a module into an fp32 ONNX model; by far the slowest part of an export.

    Args:
        module: Module in eval mode, float32; it is copied, not changed.
        image_size: Size of the images.
        opset: Opset of the model; by default :data:`OPSET`, or the oldest one that PyTorch's exporter writes
            if the network cannot be written in it.

    Raises:
        ValueError: the module is in training mode.
        ImfDeployError: the module cannot be exported in this form, or in this opset.
    """
    import torch

    if any(part.training for part in module.modules()):
        raise ValueError(f"{type(module).__name__} must be in eval mode before its export")
    prepared = _prepared(module)
    # A batch of one would be baked into the graph as a constant.
    images = torch.zeros(2, *shape_of(image_size))
    try:
        with _quiet():
            program = torch.onnx.export(
                prepared,
                (images,),
                dynamo=True,
                external_data=False,
                opset_version=max(opset or OPSET, TRACED_OPSET),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim(BATCH)},),
                verbose=False,
            )
    except Exception as error:  # the traced code and the exporter may raise anything
        raise ImfDeployError(
            f"cannot export {type(module).__name__} to ONNX ({first_line(error)})",
            "Use a model without control flow that depends on its input",
        ) from error
    if program is None:
        raise ImfDeployError(f"torch.onnx returned nothing for {type(module).__name__}")
    model: ModelProto = program.model_proto
    simplify(model)
    if opset:
        lower_opset(model, opset)
        _check_opset(model, opset)
        return model
    lowered = copy.deepcopy(model)
    try:
        lower_opset(lowered, OPSET)
    except ImfDeployError:
        return model
    return lowered


def _check_opset(model: ModelProto, opset: int) -> None:
    """Refuse a model in another opset than requested: PyTorch's exporter does not always obey."""
    if (written := default_opset(model)) != opset:
        raise ImfDeployError(
            f"PyTorch's exporter wrote opset {written} instead of {opset}", "Use another `opset`"
        )


def _prepared(module: nn.Module) -> nn.Module:
    """Return a copy with the same answers that the exporter traces in half the time."""
    import torch
    from torch.fx.experimental.optimization import fuse

    # The copy is on the CPU: the exporter must not change the caller's module, and constants that are folded
    # on a GPU would round differently. Channels-last would be exported as a Range, a Gather and six more
    # operators around every flatten.
    copied: Any = copy.deepcopy(module).cpu().to(memory_format=torch.contiguous_format)
    for part in copied.modules():
        if getattr(part, "inplace", False):
            part.inplace = False
    # This folds batch norm into convolutions. Symbolic tracing may raise anything for a model's code; such a
    # model is decomposed as a whole, and onnxscript folds its batch norm.
    with contextlib.suppress(Exception):
        fused: nn.Module = fuse(copied).eval()
        return fused
    return cast("nn.Module", copied)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress, advice and warnings off the terminal; errors are raised anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        logging.disable(before)


def _clear_notes(model: ModelProto) -> None:
    """Remove doc strings and metadata at every depth: they contain stack traces with local paths."""
    for message in list(messages(model)):
        for name in ("doc_string", "metadata_props"):
            if name in message.DESCRIPTOR.fields_by_name:
                message.ClearField(name)


def _check(model: ModelProto) -> None:
    """Check the whole model with ONNX's own checker, and its interface with ours."""
    import onnx

    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ImfDeployError(f"the exported ONNX is not valid ({first_line(error)})") from error
    for values, name, shape in (
        (model.graph.input, INPUT, [BATCH, None, None, None]),
        (model.graph.output, OUTPUT, [BATCH, None]),
    ):
        shapes = [
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values
        ]
        fits = len(shapes) == 1 and values[0].name == name and len(shapes[0]) == len(shape)
        if not fits or any(want not in (None, got) for want, got in zip(shape, shapes[0], strict=True)):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ImfDeployError(
                f"the exported model has {shapes} where '{name}' [{wanted}] was expected",
                "Use a classifier with one input and one output whose batch is free",
            )
