"""The float ONNX model that INT8 files are made from: read, checked, and cut into layers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imf_deploy.artifact import Artifact, describe, load_artifact, sidecar_path
from imf_deploy.calib.layers import LAYER_TYPES, Layer, find_layers
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.export.onnx_file import OnnxInfo, content_hash, describe_onnx, read_model
from imf_deploy.files import read_json
from imf_deploy.preprocess import Preprocess

if TYPE_CHECKING:
    from onnx import ModelProto

# A batch norm of its own would be quantised apart, and weights behind a node are no constants.
_FOLDED = ("BatchNormalization", "Constant", "Identity")
_INTEGER_OPERATORS = ("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")


@dataclass(frozen=True, eq=False)
class FloatModel:
    """A float32 classifier in ONNX that can be calibrated; equal to itself alone.

    Attributes:
        artifact: What the file is; for files without a sidecar, read from the file itself.
        identity: SHA-256 of all that decides its answers, weights in other files included.
        proto: Its graph, with weights and inferred shapes; never changed.
        input: Name of its one input.
        free_batch: Whether it takes batches of any size; else it takes one image at a time.
        layers: What can be quantised or left in float, in the order of the graph.
        metadata: Key-value pairs of the file.
    """

    artifact: Artifact
    identity: str
    proto: ModelProto
    input: str
    free_batch: bool
    layers: tuple[Layer, ...]
    metadata: dict[str, str]

    @property
    def preprocess(self) -> Preprocess:
        """How pictures become its input."""
        return self.artifact.preprocess


def open_float_model(path: Path, preprocess: Path | None = None) -> FloatModel:
    """Read a float32 ONNX classifier, ours or anybody's.

    Args:
        path: The file.
        preprocess: JSON file in the form of :meth:`Preprocess.to_dict`, for files that do not
            carry their preprocessing; it takes precedence where both are there.

    Raises:
        UsageError: the file is quantised already, or not float32, or takes batches of one size that
            is not 1; nothing says how pictures become its input.
        ImfDeployError: it is damaged, or has nothing to quantise.
    """
    info = describe_onnx(path)
    _refuse_other_types(path, info)
    artifact = _record(path, info, preprocess)
    if len(info.inputs) != 1:
        raise ImfDeployError(f"{path} has {len(info.inputs)} inputs", "Use a classifier with one input")
    name, shape = next(iter(info.inputs.items()))
    size = artifact.preprocess.size
    # A string is a dimension that the file leaves free.
    fits = len(shape) == 4 and all(
        isinstance(given, str) or given == want
        for given, want in zip(shape[1:], (3, size, size), strict=True)
    )
    if not fits:
        raise ImfDeployError(
            f"the input '{name}' of {path} is {shape}, and pictures become [batch, 3, {size}, {size}]",
            "Give the preprocessing that it was trained with",
        )
    if isinstance(shape[0], int) and shape[0] != 1:
        raise UsageError(f"{path} takes batches of {shape[0]} and no other", "Export it with a free batch")
    proto = _prepare(path)
    layers = find_layers(proto)
    if not any(layer.op_type in LAYER_TYPES for layer in layers):
        raise ImfDeployError(
            f"{path} has no operator to quantise", f"INT8 needs one of: {', '.join(LAYER_TYPES)}"
        )
    free = isinstance(shape[0], str)
    return FloatModel(artifact, content_hash(path), proto, name, free, layers, info.metadata)


def _refuse_other_types(path: Path, info: OnnxInfo) -> None:
    integer = [op for op in info.operators if op.startswith(("QLinear", "QGemm")) or op in _INTEGER_OPERATORS]
    if info.precision == "int8" or integer:
        raise UsageError(f"{path} is quantised already", "Give the float32 file that it was made from")
    if info.precision != "fp32":
        raise UsageError(f"{path} is {info.precision}", "Give the float32 file of the same product")


def _record(path: Path, info: OnnxInfo, preprocess: Path | None) -> Artifact:
    """Return the file's record: its sidecar, or what its metadata and ``--preprocess`` say."""
    given = Preprocess.from_dict(read_json(preprocess)) if preprocess else None
    if sidecar_path(path).is_file():
        artifact = load_artifact(path)
        if given and given != artifact.preprocess:
            raise UsageError(
                f"{preprocess} contradicts the record of {path}", "Leave --preprocess out for this file"
            )
        return artifact
    return describe(
        path,
        kind="onnx",
        format="onnx",
        parent="",
        recipe="",
        model=_json_metadata(path, info.metadata, "model") or {"name": path.stem.removesuffix("-fp32")},
        preprocess=given or _own_preprocess(path, info.metadata),
        product=info.metadata.get("product", ""),
        inputs=info.inputs,
        outputs=info.outputs,
    )


def _own_preprocess(path: Path, metadata: dict[str, str]) -> Preprocess:
    content = _json_metadata(path, metadata, "preprocess")
    if content is None:
        raise UsageError(
            f"{path} does not say how pictures become its input: it has no sidecar and no 'preprocess' "
            "in its metadata",
            "Give --preprocess FILE.json with size, resize, resize_to, mean, std, labels and color",
        )
    return Preprocess.from_dict(content)


def _json_metadata(path: Path, metadata: dict[str, str], key: str) -> dict[str, Any] | None:
    """Return a JSON object of the file's metadata; nothing where there is none."""
    if key not in metadata:
        return None
    try:
        content = json.loads(metadata[key])
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ImfDeployError(f"the metadata '{key}' of {path} is no JSON object", "Export it again")
    return content


def _prepare(path: Path) -> ModelProto:
    """Load weights, fold what other exporters leave, name every node, and infer shapes."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = read_model(path)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        if any(node.op_type in _FOLDED for node in model.graph.node):
            model = _folded(model, quant_pre_process)
        taken = {node.name for node in model.graph.node}
        for index, node in enumerate(model.graph.node):
            if not node.name:
                node.name = next(n for n in _names(node.op_type, index) if n not in taken)
                taken.add(node.name)
        inferred: ModelProto = onnx.shape_inference.infer_shapes(model)
    except ImfDeployError:
        raise
    except Exception as error:  # ONNX and its passes raise whatever they meet
        raise ImfDeployError(
            f"{path} cannot be prepared for quantisation ({str(error).splitlines()[0]})", "Export it again"
        ) from error
    # The mark by which onnxruntime.quantization knows that shapes are there.
    inferred.metadata_props.add(key="onnx.infer", value="onnxruntime.quant")
    return inferred


def _names(op_type: str, index: int) -> list[str]:
    return [f"{op_type}_{index}", *(f"{op_type}_{index}_{again}" for again in range(10_000))]


def _folded(model: ModelProto, quant_pre_process: Any) -> ModelProto:
    import tempfile

    import onnx

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "folded.onnx"
        quant_pre_process(model, str(output), skip_symbolic_shape=True)
        folded: ModelProto = onnx.load(output)
    return folded
