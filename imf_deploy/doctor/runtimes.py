"""The libraries that build and run; each is imported here, because one that does not load is missing."""

import importlib
import platform
import shutil
from typing import Any

from imf_deploy.doctor.finding import Finding
from imf_deploy.export.choice import rtx_runs_on
from imf_deploy.export.flavour import gpu_here

_TORCH = "pip install --upgrade torch torchvision"


def python() -> Finding:
    """Return the interpreter; the package does not install on one that is too old."""
    return Finding(f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def pytorch() -> Finding:
    """Return PyTorch and whether it was built for CUDA."""
    torch = importlib.import_module("torch")
    if torch.version.cuda:
        return Finding(f"{torch.__version__}, built for CUDA {torch.version.cuda}")
    return Finding(f"{torch.__version__}, built for the CPU", "a CUDA build, to run engines", _TORCH)


def cuda_device() -> Finding:
    """Return the GPU that engines and CUDA runs would use."""
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        names = []
        for index in range(torch.cuda.device_count()):
            major, minor = torch.cuda.get_device_capability(index)
            names.append(f"{torch.cuda.get_device_name(index)} (SM{major}{minor})")
        return Finding(", ".join(names))
    if shutil.which("nvidia-smi") is None:
        return Finding(missing="no CUDA device: no NVIDIA driver is installed; engines are built, not run")
    if not torch.version.cuda:
        return Finding(missing="a driver is installed, but PyTorch is built for the CPU", command=_TORCH)
    return Finding(missing="a driver is installed, but PyTorch finds no CUDA device", command="nvidia-smi")


def compiler() -> Finding:
    """Return the C++ compiler that ``torch.compile`` calls on the CPU."""
    for name in ("g++", "clang++", "c++", "cl"):
        if path := shutil.which(name):
            return Finding(path)
    return Finding(missing="no C++ compiler, for --pytorch compile", command="sudo apt-get install g++")


def onnxruntime() -> Finding:
    """Return ONNX Runtime and its execution providers."""
    module = importlib.import_module("onnxruntime")
    providers = [name.removesuffix("ExecutionProvider") for name in module.get_available_providers()]
    version = f"{module.__version__}: {', '.join(providers)}"
    if "CUDA" in providers:
        return Finding(version)
    # Both packages contain the same module, and the one installed last wins.
    command = "pip uninstall onnxruntime && pip install onnxruntime-gpu"
    return Finding(version, "CUDA and TensorRT providers", command)


def openvino() -> Finding:
    """Return OpenVINO."""
    return _library("openvino", 'pip install "imf-deploy[openvino]"')


def tensorrt_rtx() -> Finding:
    """Return TensorRT-RTX, which builds without a GPU."""
    finding = _library("tensorrt_rtx", "pip install tensorrt-rtx")
    if not finding.found:
        return finding
    here = gpu_here()
    needs = "an NVIDIA RTX GPU, to run them" + (f" (the GPU here is SM{here})" if here else "")
    return Finding(f"{finding.found}: builds engines", "" if here and rtx_runs_on(here) else needs)


def tensorrt() -> Finding:
    """Return the full TensorRT, which needs a GPU even to build."""
    finding = _library("tensorrt", 'pip install "imf-deploy[tensorrt]"')
    if gpu_here():
        return finding
    needs = "a CUDA device, to build and to run"
    if not finding.found:
        # Without a GPU the library would be useless, so no command is shown.
        return Finding(missing=f"{finding.missing}; it needs {needs}")
    return Finding(finding.found, needs)


def _library(name: str, command: str) -> Finding:
    try:
        module: Any = importlib.import_module(name)
    except (ImportError, OSError) as error:
        return Finding(missing=f"it is not usable ({error})", command=command)
    return Finding(str(module.__version__))
