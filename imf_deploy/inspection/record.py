"""Read the sidecar of a file to show it; a damaged one is reported, never trusted."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imf_deploy.artifact import read_record
from imf_deploy.errors import ImfDeployError
from imf_deploy.files import sha256_file
from imf_deploy.inspection.finding import Finding
from imf_deploy.records.files import Artifact, sidecar_path

# Long lists of little interest, and fields that the facts already show; the file itself has them.
_LEFT_OUT: dict[str, Any] = {
    **dict.fromkeys(
        ("path", "sha256", "recipe", "history", "teacher_tensors", "operators", "data_config", "config"), True
    ),
    "strip": {"removed", "ladder"},
    "calibration": {"sensitivity", "tries"},
    "verify": {"classes", "worst"},
}

NO_SIDECAR = "It has no sidecar: its measurements are unknown"


@dataclass(frozen=True)
class Beside:
    """The sidecar of a file.

    Attributes:
        record: Contents of the sidecar; ``None`` if there is none, or it cannot be used.
        matches: Whether it belongs to this content.
        problems: What is wrong with it.
    """

    record: Artifact | None = None
    matches: bool = False
    problems: tuple[str, ...] = ()

    def to_json(self, path: Path) -> dict[str, Any] | None:
        """Return the record of ``path`` without its long lists, with ``file`` and ``matches``."""
        if self.record is None:
            return None
        return {"file": sidecar_path(path).name, "matches": self.matches, **trimmed(self.record)}


def file_facts(path: Path) -> dict[str, Any]:
    """Return size in bytes and SHA-256 of a file.

    Raises:
        ImfDeployError: the file cannot be read.
    """
    return {"size_bytes": path.stat().st_size, "sha256": sha256_file(path)}


def leads_out(path: Path) -> bool:
    """Return whether a path is a link out of its own folder, which is never followed."""
    target, folder = (Path(os.path.realpath(place)) for place in (path, path.parent))
    return not target.is_relative_to(folder)


def beside(path: Path, sha256: str) -> Beside:
    """Read the sidecar of a file, if there is one.

    Args:
        path: The file; its sidecar is ``<file>.json`` next to it. The path in the sidecar is never followed.
        sha256: Hash of the file's content.
    """
    sidecar = sidecar_path(path)
    if not sidecar.is_file():
        return Beside()
    if leads_out(sidecar):
        return Beside(problems=("Its sidecar is a link out of the folder and is not followed",))
    try:
        record = read_record(sidecar)
    except ImfDeployError as error:
        return Beside(problems=(f"Its sidecar cannot be used: {error.what}",))
    if record.sha256 == sha256:
        return Beside(record, matches=True)
    return Beside(record, problems=("It was changed after its record was written, which no longer applies",))


def trimmed(record: Artifact) -> dict[str, Any]:
    """Return the fields of a record that interest a reader, as JSON values."""
    return record.model_dump(mode="json", exclude=_LEFT_OUT, exclude_none=True)


def inspect_record(path: Path) -> Finding:
    """Return the contents of a sidecar, and whether its file is next to it, unchanged.

    Raises:
        ImfDeployError: the sidecar is damaged.
    """
    record, file = read_record(path), path.with_suffix("")
    facts: dict[str, Any] = {"file": file.name, "file_sha256": record.sha256}
    matches, warnings = False, []
    if not file.is_file():
        warnings.append(f"The file {file.name} is not next to it")
    elif leads_out(file):
        warnings.append(f"{file.name} is a link out of the folder and is not followed")
    elif not (matches := sha256_file(file) == record.sha256):
        warnings.append(f"{file.name} was changed after this record was written")
    title = f"the record (sidecar) of {file.name}"
    return Finding(path, "record", title, facts, {"matches": matches, **trimmed(record)}, warnings)
