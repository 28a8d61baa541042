"""The parts of a GPU run, and the state of GPUs, with stand-ins where there is none."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest
import torch

from imf_deploy.benchmark.gpu import gpu_parts, gpu_state
from imf_deploy.benchmark.stage import bench
from imf_deploy.runners.base import GpuTimes
from imf_deploy.settings import BenchSettings

BATCH = np.zeros((1, 3, 4, 4), np.float32)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Plain:
    """A runner that cannot be taken apart."""

    name = "plain"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def infer(self, batch: np.ndarray) -> np.ndarray:
        return batch


class Traced(Plain):
    """Gives compute times of 1, 2, 3 … ms; nothing where it is on the CPU."""

    def __init__(self, on_gpu: bool) -> None:
        self.on_gpu, self.calls = on_gpu, 0

    def trace(self, batch: np.ndarray) -> GpuTimes | None:
        self.calls += 1
        return GpuTimes(0.5, 0.1, float(self.calls), 0.2) if self.on_gpu else None


def test_parts_are_percentiles_after_the_warm_up() -> None:
    found = gpu_parts(Traced(True), BATCH, 0.0, 10, 0.0)
    assert found is not None
    assert found["count"] == 10
    assert found["compute_ms"]["p50"] == np.percentile(np.arange(2, 12), 50)
    assert found["enqueue_ms"] == {"p50": 0.5, "p90": 0.5, "p95": 0.5, "p99": 0.5, "mean": 0.5}
    assert found["h2d_ms"]["mean"] == pytest.approx(0.1)


@pytest.mark.parametrize("runner", [Plain(), Traced(False)])
def test_what_runs_on_the_cpu_has_no_parts(runner: Plain) -> None:
    assert gpu_parts(runner, BATCH, 0.0, 10, 0.0) is None


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put an ``nvidia-smi`` in the path that runs a shell script."""

    def install(script: str) -> None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return install


def test_the_state_of_each_gpu(smi: Callable[[str], None]) -> None:
    row = "NVIDIA L4, 570.1, P0, {} MHz, 2040 MHz, 6251 MHz, 50, 60 W, 72 W, 1 %"
    smi(f"echo '0, {row.format(1500)}'; echo '1, {row.format(300)}'")
    found = gpu_state()
    assert not isinstance(found, str)
    assert [gpu["clocks.sm"] for gpu in found] == ["1500 MHz", "300 MHz"]
    assert found[0]["name"] == "NVIDIA L4"


def test_no_state_says_why(
    smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    smi("echo 'driver mismatch'; exit 9")
    assert "driver mismatch" in str(gpu_state())
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert gpu_state() == "nvidia-smi is not installed"


@pytest.mark.gpu
@needs_gpu
def test_weights_on_a_gpu_have_parts_and_a_start(product_file: Path) -> None:
    rows = bench([product_file], BenchSettings(device="cuda", duration=0.2, warmup=0.05)).rows
    assert [row.runner for row in rows] == ["pytorch, channels-last, CUDA graph", "pytorch, channels-last"]
    for row in rows:
        assert row.gpu_ms is not None
        assert row.gpu_ms["compute_ms"]["p50"] > 0
        assert row.start_up is not None
        assert row.start_up["device_mib"] >= 0
