"""Read the sidecar of a file for showing: damaged ones are told about, never trusted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from imf_deploy.artifact import SCHEMA, sidecar_path
from imf_deploy.errors import ImfDeployError
from imf_deploy.files import read_json, sha256_file
from imf_deploy.inspection.finding import Finding

# Long lists that say nothing to a reader; the file itself has them.
_LONG = ("history", "teacher_tensors", "operators", "data_config", "config")
_LONG_PARTS = {
    "strip": ("removed", "ladder"),
    "calibration": ("sensitivity",),
    "verify": ("classes", "worst"),
}
_SHOWN = ("kind", "format", "product", "precision", "model", "preprocess", "inputs", "outputs", "parent",
          "evidence", "tools")  # fmt: skip

NO_SIDECAR = "It has no sidecar: what was measured of it is not known"


def file_facts(path: Path) -> dict[str, Any]:
    """Return size in bytes and SHA-256 of a file.

    Raises:
        ImfDeployError: it cannot be read.
    """
    sha256 = sha256_file(path)
    return {"size_bytes": path.stat().st_size, "sha256": sha256}


def leads_out(path: Path) -> bool:
    """Return whether a path is a link out of its own folder, which is never followed."""
    target, folder = (Path(os.path.realpath(place)) for place in (path, path.parent))
    return not target.is_relative_to(folder)


def read_record(path: Path, sha256: str) -> tuple[dict[str, Any] | None, list[str]]:
    """Return what the sidecar of a file says, if there is one, and what is wrong with it.

    Args:
        path: The file; its sidecar is ``<file>.json`` beside it. The path inside is never followed.
        sha256: Hash of the file's content.
    """
    sidecar = sidecar_path(path)
    if not sidecar.is_file():
        return None, []
    if leads_out(sidecar):
        return None, ["Its sidecar is a link out of the folder: not followed"]
    try:
        content = read_json(sidecar)
    except ImfDeployError as error:
        return None, [f"Its sidecar cannot be read: {error.what}"]
    if not is_record(content):
        return None, [f"{sidecar.name} is no sidecar of this tool"]
    matches = content["sha256"] == sha256
    problems = [] if matches else ["It was changed after its record was written: nothing there holds for it"]
    if content.get("schema") != SCHEMA:
        problems.append("Its sidecar has another form than this version writes")
    return {"file": sidecar.name, "matches": matches, **trimmed(content)}, problems


def is_record(content: dict[str, Any]) -> bool:
    """Return whether a JSON object has the form of a sidecar."""
    return (
        all(isinstance(content.get(key), str) for key in ("sha256", "kind", "format"))
        and all(isinstance(content.get(key, {}), dict) for key in ("evidence", "model", "preprocess"))
        and "schema" in content
    )


def trimmed(content: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a sidecar that a reader wants, without its long lists."""
    shown = {key: content[key] for key in _SHOWN if key in content}
    evidence = {key: value for key, value in content.get("evidence", {}).items() if key not in _LONG}
    for key, lists in _LONG_PARTS.items():
        if isinstance(evidence.get(key), dict):
            evidence[key] = {name: value for name, value in evidence[key].items() if name not in lists}
    return shown | {"evidence": evidence}


def inspect_record(path: Path, content: dict[str, Any]) -> Finding:
    """Return what a sidecar says, and whether the file that it belongs to lies beside it, unchanged."""
    file = path.with_suffix("")
    facts: dict[str, Any] = {"file": file.name, "file_sha256": content["sha256"]}
    if not file.is_file():
        matches, warnings = False, [f"The file {file.name} is not beside it"]
    elif leads_out(file):
        matches, warnings = False, [f"{file.name} is a link out of the folder: not followed"]
    else:
        matches = sha256_file(file) == content["sha256"]
        warnings = [] if matches else [f"{file.name} was changed after this record was written"]
    title = f"the record (sidecar) of {file.name}"
    return Finding(path, "record", title, facts, {"matches": matches, **trimmed(content)}, warnings)
