"""Which file a file was made from: the rung before it on the parity ladder."""

from __future__ import annotations

from collections.abc import Sequence

from imf_deploy.artifact import load_artifact
from imf_deploy.errors import ImfDeployError
from imf_deploy.records.files import DeployableFile, OnnxFile


def made_from(artifact: DeployableFile, files: Sequence[DeployableFile]) -> DeployableFile | None:
    """Return the file that a file was made from; nothing where that is not among ``files``."""
    return next((file for file in files if _is_origin(file, artifact)), None)


def with_origins(artifact: DeployableFile) -> list[DeployableFile]:
    """Return a file behind those that it was made from, as far as they lie in the same folder."""
    beside = _neighbours(artifact)
    chain: list[DeployableFile] = [artifact]
    while (origin := made_from(chain[0], beside)) and origin not in chain:
        chain.insert(0, origin)
    return chain


def _is_origin(file: DeployableFile, artifact: DeployableFile) -> bool:
    if artifact.parent == file.sha256:
        return True
    # An fp16 ONNX file is the fp32 one of the same trace in half precision.
    return (
        artifact.format == file.format == "onnx"
        and (artifact.precision, file.precision) == ("fp16", "fp32")
        and artifact.parent == file.parent
    )


def _neighbours(artifact: DeployableFile) -> list[OnnxFile]:
    """Return the ONNX files beside a file that are whole, with their records."""
    found = []
    for path in sorted(artifact.path.parent.glob("*.onnx")):
        try:
            found.append(load_artifact(path, OnnxFile))
        except ImfDeployError:
            continue  # a neighbour that is damaged is no rung, and no reason to fail
    return found
