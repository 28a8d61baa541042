"""Latency of deployable files next to the PyTorch models that they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imf_deploy.benchmark.conditions import OtherWork, busy_machine
from imf_deploy.benchmark.latency import Latency, Ratio, ratio
from imf_deploy.benchmark.measure import measure
from imf_deploy.benchmark.startup import start_up
from imf_deploy.compat import usable_cpus
from imf_deploy.progress import say
from imf_deploy.records.files import DeployableFile, OnnxFile
from imf_deploy.runners.base import Runner
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.runners.opening import Way
from imf_deploy.runners.pytorch import PyTorchRunner

if TYPE_CHECKING:
    from imf_deploy.method.products import Product

ROUNDS = 36
LOADS = 6
# Seconds after each load.
WARMUP_S = 0.05
# Seconds of a process that loads and runs one file to measure its memory.
START_S = 1.0


@dataclass(frozen=True)
class FileLatency:
    """One file's latency at batch 1, and that of its PyTorch model in the same rounds.

    Attributes:
        file: Latency of the file.
        pytorch: Latency of its PyTorch model, channels-last and not compiled, which is the default of
            ``PyTorchRunner``.
        speedup: PyTorch's latency divided by the file's.
        threads: Number of threads of both.
        memory_bytes: Additional peak memory of a separate process that has loaded and run the file; null if
            the kernel does not report it.
        to_fp32: For an INT8 file: its latency divided by that of the same product's fp32 file.
        other_cpus: Number of CPUs that other work used meanwhile.
    """

    file: Latency
    pytorch: Latency
    speedup: Ratio
    threads: int
    memory_bytes: int | None = None
    to_fp32: Ratio | None = None
    other_cpus: float = 0.0


def measure_products(
    products: list[Product], files: Sequence[DeployableFile], seconds: float
) -> dict[str, FileLatency]:
    """Measure every ONNX file, and every product in PyTorch, in alternating rounds, at batch 1 on the CPU.

    The memory of each file is measured afterwards, in a separate process.

    Args:
        products: The PyTorch models.
        files: ONNX files made from them; engines, and Q/DQ written for TensorRT, are left out.
        seconds: Minimum time in seconds that each is measured for.

    Returns:
        The latency of each ONNX file, by its hash.
    """
    threads = usable_cpus()
    onnx_files = [
        file
        for file in files
        if isinstance(file, OnnxFile) and not (file.calibration and file.calibration.target == "tensorrt")
    ]
    runners: dict[str, Runner] = {
        p.artifact.sha256: PyTorchRunner(p.module, threads=threads) for p in products
    }
    runners |= {file.sha256: OnnxRuntimeRunner(file.path, threads) for file in onnx_files}
    expected = _timing_seconds(len(runners), seconds)
    say(f"Measuring the latency of {len(runners)} models, about {expected:.0f} s")
    image = np.random.default_rng(0).standard_normal((1, *products[0].shape), dtype=np.float32)
    with OtherWork() as others:
        measured = measure(runners, image, duration_s=seconds, warmup_s=WARMUP_S, rounds=ROUNDS, loads=LOADS)
    fp32 = {file.product: file.sha256 for file in onnx_files if file.precision == "fp32"}
    latencies = {}
    for file in onnx_files:
        own, pytorch = measured[file.sha256], measured[file.source]
        single = fp32.get(file.product) if file.precision == "int8" else None
        memory = start_up(Way(file.path, threads), image).get("memory")
        latencies[file.sha256] = FileLatency(
            own,
            pytorch,
            ratio(pytorch, own),
            threads,
            round(memory["of_file_mib"] * 2**20) if memory else None,
            ratio(own, measured[single]) if single else None,
            others.cpus,
        )
    return latencies


def _timing_seconds(models: int, seconds: float) -> float:
    return models * (seconds + ROUNDS * 0.02 + LOADS * (WARMUP_S + 0.05))


def expected_seconds(products: int, files: int, seconds: float) -> float:
    """Return the expected duration of :func:`measure_products` in seconds.

    Args:
        products: Number of products.
        files: Number of ONNX files that are measured.
        seconds: Minimum time in seconds that each is measured for.
    """
    return _timing_seconds(products + files, seconds) + files * START_S


def was_it_busy(latencies: dict[str, FileLatency]) -> list[str]:
    """Return a sentence if other work took CPUs that the measurement needed, else an empty list."""
    one = next(iter(latencies.values()), None)  # all were measured together
    busy = busy_machine(one.other_cpus, one.threads) if one else ""
    return [busy] if busy else []
