"""Records of files given as objects, read next to the files or derived from their content."""

from pathlib import Path

from imf_deploy.artifact import load_artifact
from imf_deploy.errors import UsageError
from imf_deploy.export.onnx_file import describe_onnx
from imf_deploy.files import sha256_file
from imf_deploy.image_size import CHANNELS
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import DeployableFile, OnnxFile, sidecar_path

File = DeployableFile | str | Path
"""A deployable file: the result of another verb, or a path."""


def as_file(file: File, preprocess: Preprocess | None = None, source: str = "") -> DeployableFile:
    """Return the record of an ONNX file or an engine; for an ONNX file of another tool, what can be derived.

    Args:
        file: The file.
        preprocess: For an ONNX file without a record: how images are prepared as its input.
        source: For such a file: hash of the network that it was made from.

    Raises:
        UsageError: the input of an ONNX file is not that of a classifier.
        ImfDeployError: the file has another type, is damaged, or is an engine without a record.
    """
    if isinstance(file, DeployableFile):
        return file
    path = Path(file)
    if path.suffix != ".onnx" or sidecar_path(path).is_file():
        return load_artifact(path, DeployableFile)
    info = describe_onnx(path)
    return OnnxFile(
        path=path,
        sha256=sha256_file(path),
        parent=source,
        recipe="",
        model={"name": path.stem},
        preprocess=preprocess or _of_tensors(path, [*info.inputs.values()], [*info.outputs.values()]),
        precision=info.precision,
        inputs=info.inputs,
        outputs=info.outputs,
        source=source,
    )


def _of_tensors(path: Path, inputs: list[list[int | str]], outputs: list[list[int | str]]) -> Preprocess:
    """Derive the preprocessing and the classes from the shapes of an ONNX file."""
    if len(inputs) == 1 and len(inputs[0]) == 4 and outputs and len(outputs[0]) == 2:
        (_, channels, height, width), classes = inputs[0], outputs[0][1]
        if isinstance(channels, str):  # left free
            channels = 3
        if channels in CHANNELS and all(isinstance(size, int) for size in (height, width, classes)):
            shape = channels, int(height), int(width)
            return Preprocess.of_tensors(shape, tuple(map(str, range(int(classes)))))
    raise UsageError(
        f"{path} takes {inputs} and gives {outputs}, not images [N, 1 or 3, H, W] and logits [N, classes]",
        "Use preprocess, or export the file again with fixed sizes",
    )


def with_suffix(path: str | Path, suffix: str) -> Path:
    """Return the path of an output file if it ends in a suffix, such as ``.onnx``.

    Raises:
        UsageError: it does not.
    """
    if Path(path).suffix != suffix:
        raise UsageError(f"path is {path}", f"Use a path that ends in {suffix}")
    return Path(path)
