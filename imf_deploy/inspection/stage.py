"""Stage: describe a file or a run's folder; nothing in it is executed or deserialised."""

from collections.abc import Callable
from pathlib import Path

from imf_deploy.errors import UsageError
from imf_deploy.files import existing_file, read_json
from imf_deploy.inspection.engine import inspect_engine
from imf_deploy.inspection.finding import Finding
from imf_deploy.inspection.folder import inspect_folder
from imf_deploy.inspection.onnx_model import inspect_onnx
from imf_deploy.inspection.record import inspect_record
from imf_deploy.inspection.weights import inspect_weights

_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib")
# A zip archive, which PyTorch writes, and pickles of protocol 2 and later.
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def inspect(path: Path) -> Finding:
    """Return a description of a file or a folder, without running it.

    Args:
        path: An ONNX file, a TensorRT engine, safetensors, a JSON file, or the folder of a run.

    Raises:
        UsageError: there is no such file, or it is a pickle or something unknown.
        ImfDeployError: the file is damaged.
    """
    if path.is_dir():
        return inspect_folder(path)
    existing_file(path, "the file to inspect")
    if (suffix := path.suffix.lower()) in _LOOK:
        return _LOOK[suffix](path)
    raise _unknown(path, suffix)


def _inspect_json(path: Path) -> Finding:
    """Describe a JSON file: a sidecar, the settings of a run, its report, or something else."""
    content = read_json(path)
    if "sha256" in content and "schema" in content:
        return inspect_record(path)
    if path.name == "run.json" and isinstance(content.get("config"), dict):
        return Finding(path, "settings", "the settings of a run", content["config"])
    if {"artifacts", "recommendation"} <= content.keys():
        return _inspect_report(path)
    keys = {"keys": sorted(map(str, content))}
    return Finding(path, "json", "a JSON file that is not a record of imf-deploy", keys)


def _inspect_report(path: Path) -> Finding:
    from imf_deploy.records.report import read_report
    from imf_deploy.report.verdict import check_sentence, deploy_sentence, teacher_sentence

    report = read_report(path)
    facts = {
        "verdict": deploy_sentence(report),
        "checks": check_sentence(report),
        "training": teacher_sentence(report),
        "status": report.status,
        "created": report.created,
        "command": report.command,
        "deployables": [row.path for row in report.artifacts],
    }
    return Finding(path, "report", "the report of a run", facts, None, report.notes)


_LOOK: dict[str, Callable[[Path], Finding]] = {
    ".onnx": inspect_onnx,
    ".engine": inspect_engine,
    ".trt": inspect_engine,
    ".plan": inspect_engine,
    ".safetensors": inspect_weights,
    ".checkpoint": inspect_weights,
    ".json": _inspect_json,
}


def _unknown(path: Path, suffix: str) -> UsageError:
    with path.open("rb") as file:
        start = file.read(8)
    if suffix in _PICKLES or start.startswith(_PICKLE_STARTS):
        return UsageError(
            f"{path} may be a pickle, which can run code when it is read, so it was not opened",
            "Ask its author to save its state_dict with safetensors.torch.save_file, and inspect that",
        )
    return UsageError(f"{path} has an unknown type", f"Use a run's folder, or one of {', '.join(_LOOK)}")
