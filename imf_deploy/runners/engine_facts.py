"""Say what a TensorRT engine is and what would run it, without TensorRT and without a GPU."""

from __future__ import annotations

from pathlib import Path

from imf_deploy.artifact import load_artifact, sidecar_path
from imf_deploy.errors import DeviceError
from imf_deploy.export.engine_header import EngineHeader, read_engine_header
from imf_deploy.export.flavour import LIBRARIES, gpu_here
from imf_deploy.export.targets import rtx_runs_on


def describe_engine(path: Path) -> str:
    """Return what an engine is, in one clause: library, version, targets and its sidecar's facts.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: it is no whole engine, or its sidecar is damaged or belongs to another.
    """
    header = read_engine_header(path)
    text = f"a {LIBRARIES[header.flavour].name} {header.version} engine"
    if header.targets:
        text += f" for {targets_text(header)}"
    if not sidecar_path(path).is_file():
        return f"{text} (without a sidecar: precision and shapes unknown)"
    artifact = load_artifact(path)
    facts = [artifact.product, artifact.precision, f"{_io(artifact.inputs)} -> {_io(artifact.outputs)}"]
    return f"{text} ({', '.join(fact for fact in facts if fact)})"


def targets_text(header: EngineHeader) -> str:
    """Return the architectures of an RTX engine, such as ``SM86, SM89 and later``."""
    return ", ".join(f"SM{name}" for name in header.targets) + (" and later" if header.portable else "")


def what_runs(header: EngineHeader) -> str:
    """Return what an engine needs to run, as the hint of an error."""
    if header.flavour == "rtx":
        return (
            f"It needs an NVIDIA RTX GPU ({targets_text(header)}), its driver, a CUDA build of PyTorch "
            f"and tensorrt-rtx {header.version}"
        )
    return (
        "It needs the model of NVIDIA GPU that it was built on, its driver, a CUDA build of PyTorch "
        f"and tensorrt {header.version}"
    )


def missing_gpu(header: EngineHeader) -> str:
    """Return why nothing here runs an engine, as a clause; empty where the GPU may.

    An RTX engine without targets runs on the architectures that it names and on newer ones.
    """
    here = gpu_here()
    if not here:
        return "no CUDA device was found"
    runs = rtx_runs_on(here, header.targets) if header.portable else here in header.targets
    return "" if runs or not header.targets else f"the GPU here is SM{here}"


def why_not_here(path: Path) -> str:
    """Return why no GPU here runs an engine, with what it is for but without its name; empty where one may.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: it is no whole engine.
    """
    header = read_engine_header(path)
    missing = missing_gpu(header)
    return f"{missing}, and the engine is for {targets_text(header)}" if missing and gpu_here() else missing


def require_gpu(path: Path, header: EngineHeader) -> None:
    """Check that this machine has a GPU for an engine, before anything is deserialised.

    TensorRT may end the whole process with a segmentation fault where there is none.

    Raises:
        DeviceError: it has none; the message says what the engine is and what would run it.
        ImfDeployError: the engine's sidecar is damaged or belongs to another file.
    """
    if missing := missing_gpu(header):
        raise DeviceError(f"{path} is {describe_engine(path)}, and {missing}", what_runs(header))


def _io(tensors: dict[str, list[int | str]]) -> str:
    """Return names and shapes, such as ``images [batch, 3, 224, 224]``."""
    return ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in tensors.items()) or "?"
