"""Describe a TensorRT engine and what can run it, without TensorRT and without a GPU."""

import re
import shlex
from pathlib import Path

from imf_deploy.artifact import load_artifact
from imf_deploy.errors import DeviceError, ImfDeployError
from imf_deploy.export.choice import rtx_runs_on
from imf_deploy.export.engine_header import EngineHeader, read_engine_header
from imf_deploy.export.flavour import LIBRARIES, cuda_driver, gpu_here, this_gpu
from imf_deploy.records.files import EngineFile, sidecar_path
from imf_deploy.records.making import Gpu
from imf_deploy.settings.export import TURING

AMPERE = 80
"""Oldest compute capability that runs engines built with ``--hardware-compatible ampere+``."""


def describe_engine(path: Path) -> str:
    """Return a description of an engine in one clause: library, version, targets and its sidecar's facts.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: the engine is incomplete, or its sidecar is damaged or belongs to another engine.
    """
    header = read_engine_header(path)
    text = f"a {LIBRARIES[header.flavour].name} {header.version} engine"
    if header.targets:
        text += f" for {targets_text(header)}"
    if not sidecar_path(path).is_file():
        return f"{text} (without a sidecar: precision and shapes unknown)"
    artifact = load_artifact(path, EngineFile)
    facts = [artifact.product, artifact.precision, f"{_io(artifact.inputs)} -> {_io(artifact.outputs)}"]
    return f"{text} ({', '.join(fact for fact in facts if fact)})"


def targets_text(header: EngineHeader) -> str:
    """Return the architectures of an RTX engine, such as ``SM86, SM89 and later``."""
    return ", ".join(f"SM{name}" for name in header.targets) + (" and later" if header.portable else "")


def what_runs(header: EngineHeader, record: EngineFile | None = None) -> str:
    """Return what is needed to run an engine, as the hint of an error."""
    if header.flavour == "rtx":
        return (
            f"It needs an NVIDIA RTX GPU ({targets_text(header)}), its driver, a CUDA build of PyTorch "
            f"and tensorrt-rtx {header.version}"
        )
    later = " or a later version of the same major one" if _option(record, "version_compatible") else ""
    if _option(record, "hardware_compatible"):
        gpu = "an NVIDIA GPU, Ampere or newer"
    else:
        own = _built_on(record)
        gpu = f"an {own.name}" if own else "the model of NVIDIA GPU that it was built on"
    return f"It needs {gpu}, its driver, a CUDA build of PyTorch and tensorrt {header.version}{later}"


def rebuild_command(path: Path, record: EngineFile | None) -> str:
    """Return the command that rebuilds an engine on this machine, as the hint of an error.

    Args:
        path: The engine.
        record: Record of the engine, or ``None``.
    """
    from imf_deploy.models.names import file_stem  # the package imports PyTorch

    if record is None:
        return "Rebuild it here from its ONNX file"
    here = gpu_here()
    if record.format != "tensorrt_rtx" or (here and not rtx_runs_on(here)):
        library = "tensorrt"
    else:
        library = f"rtx --compute-capability {TURING}" if here == TURING else "rtx"
    product = f"{file_stem(record.model['name'])}-{record.product}.safetensors"
    source = path.parent.parent / "products" / product
    weights = source if source.is_file() else Path(product)
    options = [f"--precisions {record.precision}", f"--trt {library}", "--overwrite"]
    return f"Rebuild it here: imf-deploy export {shlex.quote(str(weights))} {' '.join(options)}"


def missing_gpu(header: EngineHeader, record: EngineFile | None = None) -> str:
    """Return why no GPU here can run an engine, as a clause; empty if the GPU may be able to.

    An RTX engine without targets runs on the architectures that it names and on newer ones. An engine of the
    full TensorRT runs on the compute capability that it was built on, which only its record contains.

    Args:
        header: Header of the engine.
        record: Record of the engine, or ``None``.
    """
    here = gpu_here()
    if not here:
        return old_driver() or "no CUDA device was found"
    if header.targets:
        runs = rtx_runs_on(here, header.targets) if header.portable else here in header.targets
        return "" if runs else f"the GPU here is SM{here}"
    gpu = _built_on(record)
    if not gpu:
        return ""
    if _option(record, "hardware_compatible"):
        return "" if int(here) >= AMPERE else f"it runs on Ampere and newer, and the GPU here is SM{here}"
    if here == gpu.capability:
        return ""
    return f"it was built on {gpu}, and the GPU here is {this_gpu()}"


def old_driver() -> str:
    """Return that the driver is older than PyTorch's CUDA, as a clause; empty if it is not."""
    import torch

    driver, needed = cuda_driver(), torch.version.cuda or ""
    if not driver or not needed or int(driver.partition(".")[0]) >= int(needed.partition(".")[0]):
        return ""
    return f"the NVIDIA driver here supports CUDA {driver}, but PyTorch is built for CUDA {needed}"


def refusal(path: Path, header: EngineHeader, installed: str, reason: str) -> ImfDeployError:
    """Return the error for an engine that its library refuses, with the mismatch.

    Args:
        path: The engine.
        header: Header of the engine.
        installed: Version of the installed library.
        reason: The library's message.
    """
    library, record = LIBRARIES[header.flavour].name, _record(path)
    if not _loads(header.version, installed, later=_option(record, "version_compatible")):
        what = f"{path} was built by {library} {header.version}, but {library} {installed} is installed here"
        return ImfDeployError(what, rebuild_command(path, record))
    gpu, here = _built_on(record), cuda_driver()
    if "driver" in reason.lower() and gpu and here:
        what = (
            f"{path} was built with a driver for CUDA {gpu.cuda_driver}, "
            f"but the driver here supports CUDA {here}"
        )
        return ImfDeployError(
            f"{what} ({reason})", f"Update the NVIDIA driver. {rebuild_command(path, record)}"
        )
    return ImfDeployError(f"{library} {installed} refuses {path}: {reason}", rebuild_command(path, record))


def without_weights(path: Path) -> ImfDeployError:
    """Return the error for an engine that was built without its weights."""
    return ImfDeployError(
        f"{path} has no weights",
        f"Add them: imf-deploy refit-engine {shlex.quote(str(path))} WEIGHTS --output FILE",
    )


def require_weights(path: Path) -> None:
    """Check from its record that an engine has weights; without them its answers would be meaningless.

    Raises:
        ImfDeployError: the engine has none.
    """
    record = _record(path)
    if record and record.stripped:
        raise without_weights(path)


def engine_host_code(path: Path, header: EngineHeader) -> bool:
    """Return whether an engine may run its own code on this machine's CPU.

    An engine that is compatible with other versions contains its runtime. Its record must say so and belong
    to it: an engine of unknown origin may run nothing but kernels.
    """
    return header.flavour == "tensorrt" and _option(_record(path), "version_compatible")


def _loads(built: str, installed: str, *, later: bool) -> bool:
    """Return whether a version can load engines of another, judging by the versions only.

    Args:
        built: Four numbers, from the engine.
        installed: Version of the library, with three or more numbers.
        later: Whether the engine was also built for later versions of the same major version.
    """
    engine, library = _numbers(built), _numbers(installed)
    return engine[0] == library[0] and engine <= library if later else engine == library


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall("[0-9]+", version)[:3])


def _record(path: Path) -> EngineFile | None:
    return load_artifact(path, EngineFile) if sidecar_path(path).is_file() else None


def _built_on(record: EngineFile | None) -> Gpu | None:
    return record.build.gpu if record and record.build else None


def _option(record: EngineFile | None, name: str) -> bool:
    return record is not None and record.built_with(name)


def why_not_here(path: Path) -> str:
    """Return why no GPU here runs an engine, and its targets, without its name; empty if one may run it.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: the engine is incomplete.
    """
    header = read_engine_header(path)
    missing = missing_gpu(header, _record(path))
    other_gpu = missing and gpu_here() and header.targets
    return f"{missing}, and the engine is for {targets_text(header)}" if other_gpu else missing


def require_gpu(path: Path, header: EngineHeader) -> None:
    """Check that this machine has a GPU for an engine, before anything is deserialised.

    Without one, TensorRT may end the whole process with a segmentation fault.

    Raises:
        DeviceError: there is none; the message describes the engine and what can run it.
        ImfDeployError: the engine's sidecar is damaged or belongs to another file.
    """
    record = _record(path)
    missing = missing_gpu(header, record)
    if not missing:
        return
    hint = what_runs(header, record)
    if gpu_here():
        hint = f"{hint}. {rebuild_command(path, record)}"
    raise DeviceError(f"{path} is {describe_engine(path)}, but {missing}", hint)


def _io(tensors: dict[str, list[int | str]]) -> str:
    """Return names and shapes, such as ``images [batch, 3, 224, 224]``."""
    return ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in tensors.items()) or "?"
