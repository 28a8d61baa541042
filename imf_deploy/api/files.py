"""Files that are given as objects: their records, read beside them or made of what the file itself says."""

from __future__ import annotations

from pathlib import Path

from imf_deploy.artifact import Artifact, describe, load_artifact, sidecar_path
from imf_deploy.errors import UsageError
from imf_deploy.export.onnx_file import describe_onnx
from imf_deploy.preprocess import Preprocess

File = Artifact | str | Path
"""A deployable file: what another verb returned, or a path."""


def as_file(file: File, preprocess: Preprocess | None = None, source: str = "") -> Artifact:
    """Return the record of an ONNX file or an engine; of somebody else's ONNX file, what can be known.

    Args:
        file: The file.
        preprocess: For an ONNX file without a record: how pictures become its input.
        source: For such a file: hash of the network that it was made from.

    Raises:
        UsageError: the file is of another kind, or an ONNX file whose input is not that of a classifier.
        ImfDeployError: it is damaged, or an engine without a record.
    """
    if isinstance(file, Artifact):
        return file
    path = Path(file)
    if path.suffix != ".onnx" or sidecar_path(path).is_file():
        record = load_artifact(path)
        if record.kind not in ("onnx", "engine"):
            raise UsageError(f"{path} is a {record.kind}", "Give an ONNX file or an engine")
        return record
    info = describe_onnx(path)
    return describe(
        path,
        kind="onnx",
        format="onnx",
        parent=source,
        recipe="",
        model={"name": path.stem},
        preprocess=preprocess or _of_tensors(path, [*info.inputs.values()], [*info.outputs.values()]),
        product="",
        precision=info.precision,
        inputs=info.inputs,
        outputs=info.outputs,
        evidence={"source": source},
    )


def _of_tensors(path: Path, inputs: list[list[int | str]], outputs: list[list[int | str]]) -> Preprocess:
    """Return what an ONNX file's shapes say of its input and its classes."""
    if len(inputs) == 1 and len(inputs[0]) == 4 and outputs and len(outputs[0]) == 2:
        size, classes = inputs[0][3], outputs[0][1]
        if isinstance(size, int) and isinstance(classes, int):
            return Preprocess.of_tensors(size, tuple(map(str, range(classes))))
    raise UsageError(
        f"{path} takes {inputs} and gives {outputs}, not images [N, 3, S, S] and logits [N, classes]",
        "Give preprocess, or export the file again with fixed sizes",
    )
