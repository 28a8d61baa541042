"""The file that a file was made from, and the check of a file against its record."""

from collections.abc import Sequence

from imf_deploy.artifact import load_artifact
from imf_deploy.errors import ImfDeployError
from imf_deploy.export.engine_header import read_engine_header
from imf_deploy.export.onnx_file import describe_onnx
from imf_deploy.export.precision import is_stated
from imf_deploy.records.files import DeployableFile, OnnxFile


def made_from(artifact: DeployableFile, files: Sequence[DeployableFile]) -> DeployableFile | None:
    """Return the file that a file was made from; ``None`` if it is not among ``files``."""
    return next((file for file in files if _is_origin(file, artifact)), None)


def with_origins(artifact: DeployableFile) -> list[DeployableFile]:
    """Return a file after those that it was made from, as far as they are in the same folder."""
    beside = _neighbours(artifact)
    chain: list[DeployableFile] = [artifact]
    while (origin := made_from(chain[0], beside)) and origin not in chain:
        chain.insert(0, origin)
    return chain


def _is_origin(file: DeployableFile, artifact: DeployableFile) -> bool:
    if artifact.parent == file.sha256:
        return True
    # An fp16 ONNX file is the fp32 file of the same trace in half precision.
    return (
        artifact.format == file.format == "onnx"
        and (artifact.precision, file.precision) == ("fp16", "fp32")
        and artifact.parent == file.parent
    )


def _neighbours(artifact: DeployableFile) -> list[OnnxFile]:
    """Return the complete ONNX files next to a file, with their records."""
    neighbours = []
    for path in sorted(artifact.path.parent.glob("*.onnx")):
        try:
            neighbours.append(load_artifact(path, OnnxFile))
        except ImfDeployError:
            continue  # a damaged neighbour is not a rung, and not a reason to fail
    return neighbours


def check_record(artifact: DeployableFile) -> None:
    """Check that a file has the format, and for ONNX the precision, that its record states.

    The precision of an engine cannot be read without its device.

    Raises:
        ImfDeployError: record and file disagree, or the file is neither ONNX nor an engine.
    """
    if artifact.path.suffix == ".onnx":
        precision = describe_onnx(artifact.path).precision
        actual = f"onnx {artifact.precision if is_stated(precision, artifact.precision) else precision}"
        recorded = f"{artifact.format} {artifact.precision}"
    else:
        header = read_engine_header(artifact.path)
        actual, recorded = "tensorrt_rtx" if header.flavour == "rtx" else "tensorrt", artifact.format
    if actual != recorded:
        raise ImfDeployError(
            f"the record of {artifact.path} calls it {recorded}, but it is {actual}", "Create the file again"
        )
