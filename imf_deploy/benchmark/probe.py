"""Load one file in this process and run it once; the child of :mod:`imf_deploy.benchmark.startup`."""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from imf_deploy.benchmark.inputs import noise
from imf_deploy.errors import ImfDeployError
from imf_deploy.runners.onnx_data import take_as_checked
from imf_deploy.runners.opening import Way

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_LIBRARIES = {
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino", "openvino.frontend"),
    "pytorch": ("torch", "torchvision", "imf_deploy.method.products"),
    "tensorrt": ("torch",),
}


def probe(way: Way, batch_shape: list[int], batch_type: str, seed: int, iterations: int) -> dict[str, Any]:
    """Return the cost of loading and of the first inference, for a process that does nothing else.

    The runtime's libraries are imported before anything is measured. The location of an ONNX file's weights
    is not checked again, because the parent process has done that.

    Args:
        way: The file and how to run it.
        batch_shape: Shape including the batch.
        batch_type: NumPy's name of the type.
        seed: Seed of the input.
        iterations: Number of further inferences before the peak of memory is read.

    Returns:
        ``load_ms``, ``first_inference_ms`` and ``memory``: resident memory of the process in MiB before
        loading, at its peak from then on, and the difference; ``device_mib`` on a GPU.
    """
    _import_libraries(way)
    batch = noise(batch_shape, batch_type, seed)
    take_as_checked(way.path)
    device_before = _device_free(way)
    before = _start_peak()
    began = time.perf_counter()
    with way.open() as runner:
        loaded = time.perf_counter()
        runner.infer(batch)
        first = time.perf_counter()
        for _ in range(iterations):
            runner.infer(batch)
        peak = _status_mib("VmHWM")
        device_after = _device_free(way)
    return {
        "load_ms": (loaded - began) * 1e3,
        "first_inference_ms": (first - loaded) * 1e3,
        "memory": None
        if before is None or peak is None
        else {"before_load_mib": before, "peak_mib": peak, "of_file_mib": max(peak - before, 0.0)},
        "device_mib": None
        if device_before is None or device_after is None
        else (device_before - device_after) / 2**20,
    }


def _import_libraries(way: Way) -> None:
    for library in _LIBRARIES.get(way.runtime, ()):
        try:
            importlib.import_module(library)
        except ImportError:
            return  # the runner reports it better


def _device_free(way: Way) -> int | None:
    """Return the free memory of the GPU in bytes; creates PyTorch's context on it."""
    if way.device == "cpu":
        return None
    import torch

    return int(torch.cuda.mem_get_info(torch.device(way.device))[0]) if torch.cuda.is_available() else None


def _start_peak() -> float | None:
    """Reset the peak of this process to its current memory, in MiB; ``None`` if it is unknown."""
    try:
        _CLEAR.write_text("5")  # Linux, Documentation/filesystems/proc.rst
    except OSError:
        return None
    return _status_mib("VmRSS")


def _status_mib(field: str) -> float | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), None)


def answer(request: str) -> str:
    """Return the answer to a request, both as JSON."""
    order = json.loads(request)
    try:
        way = Way.from_dict(order.pop("way"))
        result = probe(way, **order)
    except ImfDeployError as error:
        result = {"reason": str(error)}
    return json.dumps(result)


if __name__ == "__main__":
    sys.stdout.write(f"\n{answer(sys.argv[1])}\n")
