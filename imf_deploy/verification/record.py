"""The record of a deployable file against the file itself: read back, don't trust."""

from __future__ import annotations

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.engine_header import read_engine_header
from imf_deploy.export.onnx_file import describe_onnx
from imf_deploy.records.files import DeployableFile


def check_record(artifact: DeployableFile) -> None:
    """Check that a file is of the format, and in ONNX of the precision, that its record says.

    The precision of an engine cannot be read without its device.

    Raises:
        ImfDeployError: they contradict each other, or the file is neither ONNX nor an engine.
    """
    if artifact.path.suffix == ".onnx":
        found = f"onnx {describe_onnx(artifact.path).precision}"
        said = f"{artifact.format} {artifact.precision}"
    else:
        header = read_engine_header(artifact.path)
        found, said = "tensorrt_rtx" if header.flavour == "rtx" else "tensorrt", artifact.format
    if found != said:
        raise ImfDeployError(
            f"the record of {artifact.path} calls it {said}, and it is {found}", "Make the file again"
        )
