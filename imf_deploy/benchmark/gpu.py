"""Additional measurements on a GPU: the parts of a run, and the state of the device."""

import shutil
import subprocess
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from imf_deploy.runners.base import Batch, Runner, TracedRunner

_FIELDS = (
    "index", "name", "driver_version", "pstate", "clocks.sm", "clocks.max.sm", "clocks.mem",
    "temperature.gpu", "power.draw", "power.limit", "utilization.gpu",
)  # fmt: skip
_QUANTILES = (50, 90, 95, 99)


def gpu_parts(
    runner: Runner, batch: Batch, duration_s: float, iterations: int, warmup_s: float
) -> dict[str, Any] | None:
    """Return enqueue, host-to-device, compute and device-to-host times of a runner, by CUDA events.

    This is measured separately from the latency, because the events take time themselves.

    Args:
        runner: Runner that is not open yet.
        batch: Input of every inference.
        duration_s: Minimum time in seconds.
        iterations: Minimum number of inferences.
        warmup_s: Minimum time of the warm-up in seconds.

    Returns:
        Milliseconds: for each part ``p50`` to ``p99`` and ``mean``; ``None`` if the runner does not run on a
            GPU, or cannot be timed in parts.
    """
    if not isinstance(runner, TracedRunner):
        return None
    with runner:
        _trace_for(runner, batch, warmup_s, 1)
        seen = _trace_for(runner, batch, duration_s, iterations)
    if not seen:
        return None
    return {
        part: {f"p{q}": float(np.percentile([one[part] for one in seen], q)) for q in _QUANTILES}
        | {"mean": float(np.mean([one[part] for one in seen]))}
        for part in seen[0]
    } | {"count": len(seen)}


def _trace_for(runner: TracedRunner, batch: Batch, seconds: float, iterations: int) -> list[dict[str, float]]:
    seen: list[dict[str, float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(seen) < max(iterations, 1):
        times = runner.trace(batch)
        if times is None:
            break
        seen.append(asdict(times))
    return seen


def gpu_state() -> list[dict[str, str]] | str:
    """Return clocks, temperature and power of each NVIDIA GPU now, or why they are unknown."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "nvidia-smi is not installed"
    command = [tool, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader"]
    try:
        # No shell, and no argument from a user.
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi does not respond: {error}"
    if done.returncode:
        return f"nvidia-smi fails: {(done.stdout + done.stderr).strip().splitlines()[-1:]}"
    return [
        dict(zip(_FIELDS, (value.strip() for value in line.split(",")), strict=False))
        for line in done.stdout.strip().splitlines()
    ]
