"""Describe the contents of a run's folder, and which of its stages are finished."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import read_json, sha256_file
from imf_deploy.inspection.finding import Finding
from imf_deploy.inspection.record import Beside, beside, leads_out
from imf_deploy.records.files import DeployableFile, sidecar_path
from imf_deploy.records.report import Report, read_report
from imf_deploy.report.verdict import deploy_sentence
from imf_deploy.run.folder import RECORD, RunFolder

KNOWN = (".onnx", ".engine", ".trt", ".plan", ".safetensors")
_FOLDERS = ("products", "deploy")
_CHECKPOINTS = ("teacher.checkpoint", "distilled.checkpoint", "distilled-qat.checkpoint")


def inspect_folder(path: Path) -> Finding:
    """List the files of a run, or of any folder with such files; links out of it are not followed.

    Raises:
        UsageError: the folder contains no known file.
        ImfDeployError: the settings of the run are damaged.
    """
    report, warnings = _report(path)
    rows = report.artifacts if report else []
    latencies = {row.sha256: row.latency_ms.p50 for row in rows if row.latency_ms}
    files, problems = _files(path, latencies)
    linked = [name for name in _FOLDERS if leads_out(path / name)]
    warnings += [f"{name} is a link out of the folder and is not followed" for name in linked] + problems
    run = (path / RECORD).is_file() and not leads_out(path / RECORD)
    if not (files or run):
        raise UsageError(
            f"{path} holds no run and no ONNX file, engine or safetensors", "Use a file or a run's folder"
        )
    facts: dict[str, Any] = {"files": files}
    if not run:
        return Finding(path, "folder", f"a folder of {len(files)} files", facts, None, warnings)
    facts["settings"] = read_json(path / RECORD).get("config")
    facts["stages"] = _stages(path, files, facts["settings"])
    facts["unfinished"] = [name for name in _CHECKPOINTS if (path / name).is_file()]
    facts["verdict"] = deploy_sentence(report) if report else None
    waiting = [stage for stage, state in facts["stages"].items() if state != "done"]
    title = "a finished run" if not waiting else f"an unfinished run: {', '.join(waiting)}"
    return Finding(path, "run", title, facts, None, warnings)


def _files(folder: Path, latencies: dict[str, float]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return one entry for every file that a run makes, and the problems found."""
    entries, warnings = [], []
    for file in _candidates(folder):
        name = file.relative_to(folder).as_posix()
        if leads_out(file):
            warnings.append(f"{name} is a link out of the folder and is not followed")
            continue
        if not file.is_file():
            continue
        sha256 = sha256_file(file)
        sidecar = beside(file, sha256)
        record = sidecar.record
        warnings += [f"{name}: {problem}" for problem in sidecar.problems]
        deployed = record if isinstance(record, DeployableFile) else None
        measured = deployed.verify if deployed else None
        entries.append(
            {
                "path": name,
                "size_bytes": file.stat().st_size,
                "sha256": sha256,
                "record": _state(file, sidecar),
                "kind": record.kind if record else None,
                "product": getattr(record, "product", None),
                "precision": deployed.precision if deployed else None,
                "verified": measured.status if measured else None,
                "accuracy": measured.accuracy if measured else None,
                "latency_ms": latencies.get(sha256),
            }
        )
    return entries, warnings


def _state(file: Path, sidecar: Beside) -> str:
    if sidecar.record is None:
        return "damaged" if sidecar_path(file).is_file() else "missing"
    return "matches" if sidecar.matches else "changed"


def _candidates(folder: Path) -> Iterator[Path]:
    """Yield the files in a run's own folders, without subfolders, in the order in which a run makes them."""
    for place in (folder, *(folder / name for name in _FOLDERS if not leads_out(folder / name))):
        if place.is_dir():
            try:
                names = sorted(place.iterdir())
            except OSError as error:
                raise ImfDeployError(f"cannot read {place}: {error.strerror}") from error
            yield from (p for p in names if p.suffix.lower() in KNOWN and not p.name.startswith(".tmp-"))


def _stages(path: Path, files: list[dict[str, Any]], config: Any) -> dict[str, str]:
    """Return each stage with ``done``, ``begun`` or ``not yet``, judging by the files."""
    folder = RunFolder(path)
    whole = {entry["path"] for entry in files if entry["record"] == "matches"}
    products = [entry for entry in files if entry["path"].startswith("products/")]
    deployed = [entry for entry in files if entry["path"].startswith("deploy/")]

    def state(done: bool, begun: bool) -> str:
        return "done" if done else "begun" if begun else "not yet"

    def weights(file: Path) -> str:
        return state(file.name in whole, file.with_suffix(".checkpoint").is_file())

    complete = (path / "report.json").is_file()
    # A given teacher is stored elsewhere, and tuning for INT8 is optional: neither must exist.
    optional = {"train teacher": weights(folder.teacher), "qat": weights(folder.qat)}
    seen = {stage: progress for stage, progress in optional.items() if progress != "not yet"}
    if isinstance(config, dict) and config.get("qat_epochs"):
        seen.setdefault("qat", "not yet")
    # Only the report, which is written last, shows that none of several files is missing.
    return {
        **{stage: seen.pop(stage) for stage in ("train teacher",) if stage in seen},
        "distil": weights(folder.distilled),
        **seen,
        "strip": state(bool(deployed) and all(p["path"] in whole for p in products), bool(products)),
        "export": state(complete and all(p["path"] in whole for p in deployed), bool(deployed)),
        "verify": state(
            complete and all(p["verified"] for p in deployed), any(p["verified"] for p in deployed)
        ),
        "bench and report": state(complete, begun=False),
    }


def _report(path: Path) -> tuple[Report | None, list[str]]:
    """Return the report of the run, if there is one, and the problems found."""
    report = path / "report.json"
    if not report.is_file():
        return None, []
    if leads_out(report):
        return None, ["report.json is a link out of the folder and is not followed"]
    try:
        return read_report(report), []
    except ImfDeployError as error:
        return None, [str(error)]
