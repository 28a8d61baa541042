"""Describe an ONNX file from any exporter; its graph is read but never run."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.onnx_file import (
    describe_model,
    external_data,
    external_problem,
    messages,
    parse_model,
    tensor_shape,
)
from imf_deploy.export.precision import is_stated
from imf_deploy.inspection.finding import Finding
from imf_deploy.inspection.record import NO_SIDECAR, beside, file_facts
from imf_deploy.portability.static import integer_sums
from imf_deploy.records.files import OnnxFile, sidecar_path
from imf_deploy.untrusted import parse_json

if TYPE_CHECKING:
    from onnx import ModelProto

_JSON = ("labels", "preprocess", "model", "tools")


def inspect_onnx(path: Path) -> Finding:
    """Read an ONNX file and its sidecar; external data is named and checked, but never loaded.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: the file is truncated or not ONNX.
    """
    model = parse_model(path)
    info, facts = describe_model(path, model), file_facts(path)
    weights = _weights(model)
    outside = external_data(path, model)
    metadata = {key: _read(key, value) for key, value in info.metadata.items()}
    facts |= {
        "opset": info.opset,
        "domains": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "ir_version": model.ir_version,
        "producer": f"{model.producer_name} {model.producer_version}".strip() or None,
        "precision": info.precision,
        "inputs": [_signature(v) for v in model.graph.input if v.name in info.inputs],
        "outputs": [_signature(v) for v in model.graph.output],
        "parameters": sum(
            count for name, count in weights.items() if not name.startswith(("int64", "int32"))
        ),
        "values_by_type": weights,
        "operators": info.operators,
        "external_data": outside,
        "metadata": metadata,
    }
    sidecar = beside(path, facts["sha256"])
    record = sidecar.record if isinstance(sidecar.record, OnnxFile) else None
    warnings = [*sidecar.problems]
    if info.precision.startswith("int8"):
        facts["processors"] = _processors(model, record if sidecar.matches else None)
    ours = isinstance(metadata.get("product"), str) and "source_sha256" in metadata
    if ours and not sidecar_path(path).is_file():
        warnings.append(NO_SIDECAR)
    warnings += [str(problem) for name in outside if (problem := external_problem(path, name))]
    warnings += _contradictions(info.precision, metadata, record)
    if (
        info.precision.startswith("int8")
        and not {"QuantizeLinear", "DequantizeLinear"} & info.operators.keys()
    ):
        warnings.append("It computes in integers without Q/DQ operators, which TensorRT does not support")
    return Finding(
        path, "onnx", _title(info.precision, metadata, ours), facts, sidecar.to_json(path), warnings
    )


def _title(precision: str, metadata: dict[str, Any], ours: bool) -> str:
    if not ours:
        return f"an ONNX file in {precision}, not written by imf-deploy"
    model = metadata.get("model")
    name = model.get("name") if isinstance(model, dict) else None
    return f"the product {metadata['product']} of {name or 'a student'} as ONNX in {precision}"


def _processors(model: ModelProto, record: OnnxFile | None) -> str:
    """Return the processors on which an INT8 file answers alike, as measured or derived from its weights."""
    if record and record.calibration and record.calibration.target == "tensorrt":
        return "made for TensorRT, whose sums do not saturate"
    measured = record.verify.portability if record and record.verify else None
    try:
        own = integer_sums(model)
    except Exception as error:  # weights of a damaged file may raise anything
        return f"unknown: its weights cannot be read ({type(error).__name__})"
    # A record's claim that sums cannot saturate is checked against the weights.
    if measured and not (measured.status == "portable" and own.saturating):
        made = "; made for processors with VNNI" if measured.cpus == "vnni" else ""
        return measured.sentence + made
    return own.sentence


def _contradictions(precision: str, metadata: dict[str, Any], record: OnnxFile | None) -> list[str]:
    """Return the differences between the graph, its metadata and its sidecar."""
    contradictions = []
    own = record.precision if record else None
    for where, stated in (("metadata", metadata.get("precision")), ("sidecar", own)):
        if isinstance(stated, str) and not is_stated(precision, stated):
            contradictions.append(f"Its {where} states {stated}, but its graph is {precision}")
    source, parent = metadata.get("source_sha256"), record.source if record else ""
    if source and parent and source != parent:
        contradictions.append("Its metadata and its sidecar name different sources")
    return contradictions


def _read(key: str, value: str) -> Any:
    """Return a value of the metadata; keys that contain JSON in our files are parsed if they do."""
    if key in _JSON:
        with contextlib.suppress(ImfDeployError):
            return parse_json(value, key)
    return value


def _signature(value: Any) -> dict[str, Any]:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return {"name": value.name, "type": (kind or "unknown").removesuffix("_type"), "shape": None}
    return {
        "name": value.name,
        "type": _type_name(value.type.tensor_type.elem_type),
        "shape": tensor_shape(value),
    }


def _weights(model: ModelProto) -> dict[str, int]:
    """Return the number of values in stored tensors, by type, including subgraphs and constants."""
    from onnx import TensorProto

    counts: Counter[str] = Counter()
    for message in messages(model):
        if isinstance(message, TensorProto):
            counts[_type_name(message.data_type)] += math.prod(max(int(size), 0) for size in message.dims)
    return dict(counts.most_common())


def _type_name(number: int) -> str:
    """Return a name such as ``float32``, or the number of a type that this version of onnx does not know."""
    from onnx import TensorProto

    if number not in TensorProto.DataType.values():
        return f"type {number}"
    name = str(TensorProto.DataType.Name(number)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)
