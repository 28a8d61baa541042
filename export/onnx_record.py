"""The record of an ONNX file of any origin: its preprocessing, its labels, and the network that it holds."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from imf_deploy.artifact import load_artifact
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.export.onnx_file import OnnxInfo
from imf_deploy.files import read_json, sha256_file
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import OnnxFile, sidecar_path
from imf_deploy.settings import InterfaceSettings
from imf_deploy.untrusted import parse_object

_PRODUCT = re.compile(r"plain|imf@[1-9][0-9]{0,3}")
_FIELDS = (
    "It holds size, resize, resize_to, mean, std, labels and color, or is the record of a file of the same "
    "network"
)


def onnx_record(
    path: Path, info: OnnxInfo, preprocess: Preprocess | Path | None
) -> tuple[OnnxFile, list[str]]:
    """Return the record of an ONNX file, from its sidecar, or else from its metadata and ``preprocess``.

    Args:
        path: The file.
        info: Its contents.
        preprocess: Preprocessing, or a JSON file that holds it, for files that do not contain theirs; it
            takes precedence over the metadata.

    Returns:
        The record, and notes on metadata that is not used.

    Raises:
        UsageError: the preprocessing is unknown, or contradicts the sidecar.
        ImfDeployError: a record is damaged, or belongs to another file.
    """
    given = read_preprocess(preprocess) if isinstance(preprocess, Path) else preprocess
    if sidecar_path(path).is_file():
        artifact = load_artifact(path, OnnxFile)
        if given and artifact.preprocess.resize == "input":
            artifact = artifact.revised(preprocess=given)
        elif given and given != artifact.preprocess:
            raise UsageError(
                f"{preprocess if preprocess is not given else 'preprocess'} contradicts the record of {path}",
                "Leave `preprocess` out for this file",
            )
        return artifact, []
    own, problem = _own_preprocess(path, info.metadata)
    chosen = given or own
    if chosen is None:
        raise UsageError(
            problem,
            f"Use `preprocess` FILE.json. {_FIELDS}",
        )
    ignored = {
        "preprocess": "preprocess" in info.metadata and own != chosen,
        "model": "model" in info.metadata and not _model(path, info.metadata),
        "product": "product" in info.metadata and not _product(info.metadata),
    }
    notes = [f"The metadata '{key}' of {path} is not used" for key, is_other in ignored.items() if is_other]
    artifact = OnnxFile(
        path=path,
        sha256=sha256_file(path),
        parent="",
        recipe="",
        model=_model(path, info.metadata) or {"name": path.stem.removesuffix("-fp32")},
        preprocess=chosen,
        product=_product(info.metadata),
        precision=info.precision,
        inputs=info.inputs,
        outputs=info.outputs,
        interface=_interface(info.metadata),
    )
    return artifact, notes


def read_preprocess(path: Path) -> Preprocess:
    """Read a preprocessing from a JSON file that holds it, or from a record of a file.

    Raises:
        ImfDeployError: the file cannot be read, or a field is missing or has the wrong form.
    """
    content = read_json(path)
    own = content.get("preprocess")
    try:
        return Preprocess.from_dict(own if isinstance(own, dict) else content)
    except ImfDeployError as error:
        raise ImfDeployError(f"{path}: {error.what}", _FIELDS) from error


def _own_preprocess(path: Path, metadata: dict[str, str]) -> tuple[Preprocess | None, str]:
    """Return the preprocessing in a file's metadata, or why there is none; other tools also use the key."""
    if "preprocess" not in metadata:
        return None, (
            f"the preprocessing of {path} is unknown: it has no sidecar and no 'preprocess' in its metadata"
        )
    name = f"the metadata 'preprocess' of {path}"
    try:
        return Preprocess.from_dict(parse_object(metadata["preprocess"], name)), ""
    except ImfDeployError as error:
        reason = error.what if name in error.what else f"{name} cannot be used: {error.what}"
        return None, reason


def _model(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """Return the model in a file's metadata if imf-deploy wrote it, else an empty dict."""
    try:
        content = parse_object(metadata.get("model", "{}"), f"the metadata 'model' of {path}")
    except ImfDeployError:
        return {}
    return content if isinstance(content.get("name"), str) else {}


def _interface(metadata: dict[str, str]) -> InterfaceSettings:
    """Return the interface in a file's metadata if imf-deploy wrote it, else that of every float file."""
    names = [field.name for field in fields(InterfaceSettings)]
    try:
        return InterfaceSettings(**{name: metadata[name] for name in names})  # type: ignore[arg-type]
    except (KeyError, ValueError):
        return InterfaceSettings()


def _product(metadata: dict[str, str]) -> str:
    """Return the product in a file's metadata if imf-deploy wrote it, else an empty string."""
    product = metadata.get("product", "")
    return product if _PRODUCT.fullmatch(product) else ""
