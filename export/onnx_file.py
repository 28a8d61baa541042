"""Read the contents of an ONNX file; nothing in it is trusted before it is checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.precision import precision_of
from imf_deploy.files import existing_file, fingerprint, sha256_file

if TYPE_CHECKING:
    from onnx import ModelProto

Precision = Literal["fp32", "fp16", "int8"]
"""Precisions that imf-deploy writes."""
Shapes = dict[str, list[int | str]]
"""For each name, its shape; a string is a dynamic dimension."""


@dataclass(frozen=True)
class OnnxInfo:
    """The contents of an ONNX file, read from the file itself.

    Attributes:
        path: The file.
        precision: For example ``fp32``; see :func:`imf_deploy.export.precision.precision_of`.
        inputs: For each input, its shape.
        outputs: For each output, its shape.
        operators: For each operator type, the number of its occurrences.
        metadata: The key-value pairs of the file.
        opset: Version of the standard operator set.
    """

    path: Path
    precision: str
    inputs: Shapes
    outputs: Shapes
    operators: dict[str, int]
    metadata: dict[str, str]
    opset: int


def read_model(path: Path) -> ModelProto:
    """Parse an ONNX file; weights in other files are not loaded.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: the file is truncated or not ONNX, or names data outside its own folder.
    """
    model = parse_model(path)
    for location in external_data(path, model):
        if problem := external_problem(path, location):
            raise problem
    return model


def parse_model(path: Path) -> ModelProto:
    """Parse an ONNX file to describe it, without checking its external files.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: the file is truncated or not ONNX.
    """
    import onnx

    # protobuf is installed with onnx, but has no type annotations.
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    existing_file(path, "the ONNX model")
    try:
        model: ModelProto = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ImfDeployError(f"cannot read {path}: {error.strerror}") from error
    except (DecodeError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    # Protobuf accepts an empty file, and many that only resemble the format.
    if not (model.graph.node and model.graph.output and model.opset_import):
        raise _damaged(path, "it has no operators or no outputs")
    for message in messages(model):
        for field, value in message.ListFields():
            # Bytes that are not text are returned as bytes, and break code that reads them as a name.
            if field.type == field.TYPE_STRING and any(
                isinstance(text, bytes) for text in ([value] if isinstance(value, bytes | str) else value)
            ):
                raise _damaged(path, f"its {field.name} is not text")
    return model


def external_data(path: Path, model: ModelProto) -> list[str]:
    """Return the names of the files that a model stores weights in, as written; none is opened.

    Raises:
        ImfDeployError: a name is not text.
    """
    names = [
        entry.value
        for message in messages(model)
        for field, value in message.ListFields()
        if field.name == "external_data"
        for entry in value
        if entry.key == "location"
    ]
    if not all(isinstance(name, str) for name in names):
        raise _damaged(path, "an impossible name of external data")
    return list(dict.fromkeys(names))


def content_hash(path: Path) -> str:
    """Return the SHA-256 of an ONNX file together with the files that it stores weights in.

    Without such files it is the SHA-256 of the file itself.

    Raises:
        ImfDeployError: see :func:`read_model`.
    """
    parts = [sha256_file(path.parent / location) for location in external_data(path, read_model(path))]
    own = sha256_file(path)
    return fingerprint([own, *parts]) if parts else own


def describe_onnx(path: Path) -> OnnxInfo:
    """Return a description of an ONNX file.

    Raises:
        ImfDeployError: see :func:`read_model`.
    """
    return describe_model(path, read_model(path))


def describe_model(path: Path, model: ModelProto) -> OnnxInfo:
    """Return a description of a parsed ONNX file; ``path`` is only stored."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return OnnxInfo(
        path=path,
        precision=_precision(model),
        # Old files list their weights among the inputs.
        inputs={value.name: tensor_shape(value) for value in model.graph.input if value.name not in weights},
        outputs={value.name: tensor_shape(value) for value in model.graph.output},
        operators=dict(sorted(Counter(node.op_type for node in model.graph.node).items())),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        opset=default_opset(model),
    )


def default_opset(model: ModelProto) -> int:
    """Return the version of the standard operator set of a model; 0 if it has none."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def _damaged(path: Path, why: str) -> ImfDeployError:
    return ImfDeployError(f"{path} is damaged or not an ONNX file ({why})", "Export it again")


def messages(message: Any) -> Iterator[Any]:
    """Yield a protobuf message and every message inside it, at any depth."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if hasattr(value, "__len__") else (value,):
                yield from messages(part)


def external_problem(path: Path, location: str) -> ImfDeployError | None:
    """Return the error for external data that is missing or outside the model's folder, links followed."""
    folder = path.parent.resolve()
    try:
        target = (folder / location).resolve()
        missing = not target.is_file()
    except (OSError, ValueError):  # too long, or with a null character
        return _damaged(path, "an impossible name of external data")
    if not target.is_relative_to(folder):
        return ImfDeployError(
            f"{path} asks for data outside its own folder ({location})",
            "Do not use this file unless you created it yourself",
        )
    if missing:
        return ImfDeployError(f"{path} needs {target.name}, which is missing", "Keep the files together")
    return None


def _precision(model: ModelProto) -> str:
    from onnx import NodeProto, TensorProto

    parts = list(messages(model))
    nodes = [part for part in parts if isinstance(part, NodeProto)]
    return precision_of(nodes, [part for part in parts if isinstance(part, TensorProto)], model.graph.input)


def tensor_shape(value: Any) -> list[int | str]:
    """Return the shape of an input or output, as ONNX describes it; empty if it is not a tensor.

    Some exporters write -1 for a free dimension.
    """
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param or "?"
        for dim in value.type.tensor_type.shape.dim
    ]
