"""The float ONNX model that INT8 files are made from: read, checked, and divided into layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from imf_deploy.calib.layers import LAYER_TYPES, Layer, find_layers
from imf_deploy.calib.prepare import OPSET, prepare
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.export.onnx_file import OnnxInfo, content_hash, describe_onnx
from imf_deploy.export.onnx_record import onnx_record
from imf_deploy.portability.session import cpu_session
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import OnnxFile
from imf_deploy.runners.base import Batch
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.tasks.classification import are_probabilities
from imf_deploy.untrusted import shorten

# Number of noise images that determine which output holds the logits, and their form.
_PROBE = 4
_SAME = 1e-4
_STEADY = 1e-3


@dataclass(frozen=True, eq=False)
class FloatModel:
    """A float32 classifier in ONNX that can be calibrated; compared by identity.

    Attributes:
        artifact: The file's record; for files without a sidecar, read from the file itself.
        identity: SHA-256 of everything that affects its answers, including weights in other files.
        proto: Its graph, with weights and inferred shapes; never changed.
        input: Name of its only input.
        free_batch: Whether it accepts any batch size; otherwise it accepts one image at a time.
        logits: Name of the output that holds the logits.
        probabilities: Whether that output is behind a softmax.
        layers: Operators that can be quantised or left in float, in the order of the graph.
        metadata: Key-value pairs of the file.
        notes: Parts of the file that were ignored or changed.
    """

    artifact: OnnxFile
    identity: str
    proto: ModelProto
    input: str
    free_batch: bool
    logits: str
    probabilities: bool
    layers: tuple[Layer, ...]
    metadata: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def preprocess(self) -> Preprocess:
        """How images are prepared as its input."""
        return self.artifact.preprocess


def open_float_model(path: Path, preprocess: Preprocess | Path | None = None, logits: str = "") -> FloatModel:
    """Read a float32 ONNX classifier from any exporter.

    Args:
        path: The file.
        preprocess: Preprocessing, or a JSON file that holds it, for files that do not contain theirs; it
            takes precedence if both exist.
        logits: Name of the output that holds the logits; if empty, the output that fits the labels.

    Raises:
        UsageError: the file is already quantised, is not float32, or accepts only batches of one size that is
            not 1; its preprocessing is unknown; no output fits the labels.
        ImfDeployError: the file is damaged, or has nothing to quantise.
    """
    info = describe_onnx(path)
    _refuse_other_types(path, info)
    artifact, notes = onnx_record(path, info, preprocess)
    if artifact.interface.suffix:
        raise UsageError(
            f"{path} has another interface ({artifact.interface.suffix})",
            "Use the file that it was made from",
        )
    if len(info.inputs) != 1:
        raise ImfDeployError(f"{path} has {len(info.inputs)} inputs", "Use a classifier with one input")
    name, shape = next(iter(info.inputs.items()))
    image = artifact.preprocess.shape
    if not artifact.preprocess.fits(shape):
        raise ImfDeployError(
            f"the input '{name}' of {path} is {shape}, but images are prepared as "
            f"[batch, {', '.join(map(str, image))}]",
            "Use the preprocessing that it was trained with",
        )
    if isinstance(shape[0], int) and shape[0] != 1:
        raise UsageError(f"{path} accepts only batches of {shape[0]}", "Export it with a free batch")
    free = isinstance(shape[0], str)
    proto = prepare(path)
    layers = find_layers(proto)
    if not any(layer.op_type in LAYER_TYPES for layer in layers):
        raise ImfDeployError(
            f"{path} has no operator to quantise", f"INT8 needs one of: {', '.join(LAYER_TYPES)}"
        )
    images = np.random.default_rng(0).standard_normal((_PROBE if free else 1, *image), np.float32)
    with OnnxRuntimeRunner(path, classes=artifact.preprocess.num_classes, logits=logits) as runner:
        images, answers = _probe(runner, images)
        if free and len(images) == 1:
            free = False
            notes.append(f"{path} accepts one image at a time, although its batch is declared free")
        output = runner.output_name
        _check_steady(path, answers, runner.infer(images), runner.infer(images[:1]))
    _check_same(path, answers, _answers(path, proto, name, output, images))
    if info.opset < OPSET:
        notes.append(f"{path} has opset {info.opset}; the INT8 file has {OPSET}")
    return FloatModel(
        artifact=artifact,
        identity=content_hash(path),
        proto=proto,
        input=name,
        free_batch=free,
        logits=output,
        probabilities=are_probabilities(answers),
        layers=layers,
        metadata=info.metadata,
        notes=tuple(notes),
    )


def _probe(runner: OnnxRuntimeRunner, images: Batch) -> tuple[Batch, Batch]:
    """Return images that a file accepts and its logits: a batch, or only the first image.

    Some exporters bake the batch of their example into shapes, but declare it free.

    Raises:
        ImfDeployError: not even one image works; the error is that of the whole batch.
    """
    try:
        return images, runner.infer(images)
    except ImfDeployError as error:
        try:
            return images[:1], runner.infer(images[:1])
        except ImfDeployError:
            raise error from None


def _answers(path: Path, proto: ModelProto, name: str, output: str, images: Batch) -> Batch:
    """Return one output of a prepared graph."""
    try:
        values: Batch = cpu_session(proto.SerializeToString()).run([output], {name: images})[0]
    except Exception as error:  # its errors share no base class
        raise ImfDeployError(
            f"{path} cannot be prepared for quantisation ({shorten(str(error))})", "Export it again"
        ) from error
    return values


def _check_steady(path: Path, answers: Batch, again: Batch, alone: Batch) -> None:
    """Refuse a file that was exported in training mode.

    Args:
        path: The file.
        answers: Answers for a batch.
        again: Answers for the same batch in another run.
        alone: Answers for its first image.

    Raises:
        ImfDeployError: the answers are random, or depend on the other images of the batch.
    """
    if not np.isfinite(answers).all():
        return  # values that are not finite are reported later, on images
    allowed = _STEADY * max(float(np.abs(answers).max()), 1.0)
    for other, fault in ((again, "in every run"), (alone, "for an image alone than for one in a batch")):
        if not float(np.abs(other - answers[: len(other)]).max()) <= allowed:
            raise ImfDeployError(
                f"{path} answers differently {fault}",
                "Export it in evaluation mode, without active dropout and with the statistics of batch norm",
            )


def _check_same(path: Path, before: Batch, after: Batch) -> None:
    """Refuse a file whose answers change when it is prepared, as may happen with ONNX's opset converter.

    Raises:
        ImfDeployError: they change by more than the order of sums explains.
    """
    if not np.isfinite(before).all():
        return  # values that are not finite are reported later, on images
    same_shape = after.size == before.size
    difference = float(np.abs(after.reshape(before.shape) - before).max()) if same_shape else np.inf
    if not difference <= _SAME * max(float(np.abs(before).max()), 1.0):
        raise ImfDeployError(
            f"{path} answers differently after its graph was prepared for quantisation "
            f"(a logit changes by {difference:.2g})",
            f"Export it again with opset {OPSET} or newer",
        )


def _refuse_other_types(path: Path, info: OnnxInfo) -> None:
    if info.precision.startswith(("int", "float8", "float4")):
        raise UsageError(
            f"{path} is already quantised: {info.precision}", "Use the float32 file that it was made from"
        )
    if info.precision != "fp32":
        raise UsageError(f"{path} is {info.precision}", "Use the float32 file of the same product")
