"""Read what an ONNX file says about itself; nothing of it is trusted before it was checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from imf_deploy.errors import ImfDeployError
from imf_deploy.files import existing_file

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

Precision = Literal["fp32", "fp16", "int8"]
Shapes = dict[str, list[int | str]]
"""Name to shape; a string is a dynamic dimension."""


@dataclass(frozen=True)
class OnnxInfo:
    """What an ONNX file holds, read from the file itself.

    Attributes:
        path: The file.
        precision: ``int8`` where it has Q/DQ operators, ``fp16`` where its weights are half, else ``fp32``.
        inputs: Name to shape of each input.
        outputs: Name to shape of each output.
        operators: Operator type to how often it occurs.
        metadata: The key-value pairs of the file.
        opset: Version of the standard operator set.
    """

    path: Path
    precision: Precision
    inputs: Shapes
    outputs: Shapes
    operators: dict[str, int]
    metadata: dict[str, str]
    opset: int


def read_model(path: Path) -> ModelProto:
    """Parse an ONNX file; weights that lie in other files are not loaded.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: the file is truncated or no ONNX, or names data outside its own folder.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    existing_file(path, "the ONNX model")
    try:
        model: ModelProto = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ImfDeployError(f"cannot read {path}: {error.strerror}") from error
    except (DecodeError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    # Protobuf accepts an empty file, and much that only looks like the format.
    if not (model.graph.node and model.graph.output and model.opset_import):
        raise _damaged(path, "it has no operators or no outputs")
    for tensor in _tensors(model):
        _check_external(path, tensor)
    return model


def read_metadata(path: Path) -> dict[str, str]:
    """Return the key-value pairs of an ONNX file.

    Raises:
        ImfDeployError: as :func:`read_model`.
    """
    return {entry.key: entry.value for entry in read_model(path).metadata_props}


def operators(path: Path) -> dict[str, int]:
    """Return how often each type of operator occurs in an ONNX file, by name.

    Raises:
        ImfDeployError: as :func:`read_model`.
    """
    return _count(read_model(path))


def describe_onnx(path: Path) -> OnnxInfo:
    """Return everything that an ONNX file says about itself.

    Raises:
        ImfDeployError: as :func:`read_model`.
    """
    model = read_model(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    return OnnxInfo(
        path=path,
        precision=_precision(model),
        # Old files list their weights among the inputs.
        inputs={value.name: _shape(value) for value in model.graph.input if value.name not in weights},
        outputs={value.name: _shape(value) for value in model.graph.output},
        operators=_count(model),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        opset=max(
            (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0
        ),
    )


def _damaged(path: Path, why: str) -> ImfDeployError:
    return ImfDeployError(f"{path} is damaged or no ONNX file ({why})", "Export it again")


def _tensors(message: Any) -> Iterator[TensorProto]:
    """Yield every tensor of a model: weights, and constants at any depth of its attributes."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if field.is_repeated else (value,):
            if part.DESCRIPTOR.name == "TensorProto":
                yield part
            else:
                yield from _tensors(part)


def _check_external(path: Path, tensor: TensorProto) -> None:
    """Refuse weights in a file that is missing or outside the model's folder, links followed."""
    for entry in tensor.external_data:
        if entry.key != "location":
            continue
        folder = path.parent.resolve()
        target = (folder / entry.value).resolve()
        if not target.is_relative_to(folder):
            raise ImfDeployError(
                f"{path} asks for data outside its own folder ({entry.value})",
                "Do not use this file unless you made it yourself",
            )
        if not target.is_file():
            raise ImfDeployError(f"{path} needs {target.name}, which is missing", "Keep the files together")


def _count(model: ModelProto) -> dict[str, int]:
    return dict(sorted(Counter(node.op_type for node in model.graph.node).items()))


def _precision(model: ModelProto) -> Precision:
    from onnx import TensorProto

    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        return "int8"
    half = any(
        tensor.data_type == TensorProto.FLOAT16 and len(tensor.dims) > 1 for tensor in model.graph.initializer
    )
    return "fp16" if half else "fp32"


def _shape(value: Any) -> list[int | str]:
    return [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
        for dim in value.type.tensor_type.shape.dim
    ]
