"""Describe a TensorRT engine from its first bytes; it is never deserialised."""

from pathlib import Path
from typing import Any

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.engine_header import EngineHeader, read_engine_header
from imf_deploy.export.flavour import LIBRARIES
from imf_deploy.inspection.finding import Finding
from imf_deploy.inspection.record import NO_SIDECAR, beside, file_facts
from imf_deploy.records.files import Artifact, EngineFile, sidecar_path
from imf_deploy.runners.engine_facts import what_runs
from imf_deploy.untrusted import parse_object


def inspect_engine(path: Path) -> Finding:
    """Read the header of an engine, the JSON that may precede it, and its sidecar.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: the file is not a TensorRT engine, or is truncated.
    """
    header = read_engine_header(path)
    facts = file_facts(path) | {
        "library": LIBRARIES[header.flavour].name,
        "version": header.version,
        "targets": [f"SM{name}" for name in header.targets],
        "portable": header.portable,
        "plan_offset": header.offset,
        "plan_bytes": header.size,
        "to_run": what_runs(header),
    }
    if header.offset:
        facts["prefix"] = _prefix(path, header)
    sidecar = beside(path, facts["sha256"])
    record = sidecar.record if isinstance(sidecar.record, EngineFile) else None
    warnings = [*sidecar.problems, *_contradictions(header, sidecar.record)]
    if not sidecar_path(path).is_file():
        warnings.append(NO_SIDECAR)
    product = f"the product {record.product} as " if record and record.product else ""
    title = f"{product}a {facts['library']} {header.version} engine"
    return Finding(path, "engine", title, facts, sidecar.to_json(path), warnings)


def _prefix(path: Path, header: EngineHeader) -> dict[str, Any] | str:
    """Return the metadata that Ultralytics writes before a plan; reading the header has checked it."""
    try:
        with path.open("rb") as file:
            text = file.read(header.offset)[4:]
    except OSError as error:
        raise ImfDeployError(f"cannot read {path}: {error.strerror}") from error
    try:
        return parse_object(text, str(path))
    except ImfDeployError:
        return text.decode(errors="replace")


def _contradictions(header: EngineHeader, record: Artifact | None) -> list[str]:
    """Return the differences between the header and the sidecar."""
    wanted = "tensorrt_rtx" if header.flavour == "rtx" else "tensorrt"
    if record and record.format != wanted:
        return [f"Its sidecar states {record.format}, but its header {wanted}"]
    return []
