"""Check every part of the machine in turn; a missing or broken part does not stop the others."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imf_deploy.compat import versions
from imf_deploy.doctor import machine, runtimes
from imf_deploy.doctor.finding import Finding

Check = Callable[[], Finding]


def examine(folder: Path) -> dict[str, dict[str, Finding]]:
    """Return the findings, by purpose (``build``, ``run``, ``measure``) and then by part.

    Args:
        folder: Output folder for results, whose disk is checked.
    """
    checks: dict[str, dict[str, Check]] = {
        "build": {
            "Python": runtimes.python,
            "PyTorch": runtimes.pytorch,
            "TensorRT-RTX": runtimes.tensorrt_rtx,
            "TensorRT": runtimes.tensorrt,
            "disk": lambda: machine.disk(folder),
            "memory": machine.memory,
        },
        "run": {
            "ONNX Runtime": runtimes.onnxruntime,
            "OpenVINO": runtimes.openvino,
            "CUDA device": runtimes.cuda_device,
            "torch.compile": runtimes.compiler,
        },
        "measure": {
            "CPUs": machine.cpus,
            "INT8 instructions": machine.int8_instructions,
            "governor": machine.governor,
            "energy": machine.energy,
            "load": machine.load,
            "GPU clocks": machine.gpu_clocks,
        },
    }
    return {
        purpose: {part: _ask(check) for part, check in parts.items()} for purpose, parts in checks.items()
    }


def to_dict(findings: dict[str, dict[str, Finding]]) -> dict[str, Any]:
    """Return the JSON form."""
    facts = {
        purpose: {part: asdict(finding) for part, finding in parts.items()}
        for purpose, parts in findings.items()
    }
    return {"schema": 1, **facts, "versions": versions()}


def _ask(check: Check) -> Finding:
    try:
        return check()
    except Exception as error:  # broken drivers and half-installed libraries raise anything
        reason = (str(error).strip().splitlines() or [""])[0]
        return Finding(missing=f"it cannot be checked ({type(error).__name__}: {reason})")
