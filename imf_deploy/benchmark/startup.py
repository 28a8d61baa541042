"""The cost of a file before its steady state: load time, first inference and memory, in a new process."""

import json
import subprocess
import sys
from typing import Any

from imf_deploy.errors import ImfDeployError
from imf_deploy.runners.base import Batch
from imf_deploy.runners.onnx_data import check_onnx_data
from imf_deploy.runners.opening import Way

ITERATIONS = 3
"""Number of inferences after the first one, before the peak of memory is read."""
_LIMIT_S = 900.0


def start_up(way: Way, batch: Batch, seed: int = 0, limit_s: float = _LIMIT_S) -> dict[str, Any]:
    """Load a file and run it in a separate process; see :func:`imf_deploy.benchmark.probe.probe`.

    In this process, memory and caches would be those of all files together.

    Args:
        way: The file and how to run it.
        batch: Batch whose shape and type are used; the other process makes the same input from ``seed``.
        seed: Seed of the input.
        limit_s: Timeout in seconds.

    Returns:
        The answer of ``probe``; or only ``reason``, if the file is in memory or the other process failed.
    """
    if way.product:
        return {"reason": "it is in memory"}
    if way.path.suffix.lower() == ".onnx":
        try:
            check_onnx_data(way.path)
        except ImfDeployError as error:
            return {"reason": str(error)}
    order = {
        "way": way.to_dict(),
        "batch_shape": list(batch.shape),
        "batch_type": batch.dtype.name,
        "seed": seed,
        "iterations": ITERATIONS,
    }
    # -P: a folder named imf_deploy in the current folder must not hide the installed package.
    command = [sys.executable, "-P", "-m", "imf_deploy.benchmark.probe", json.dumps(order)]
    try:
        # No shell: the user's values are inside one JSON argument.
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)  # noqa: S603
    except (subprocess.TimeoutExpired, OSError) as error:
        return {"reason": f"the other process did not end: {error}"}
    lines = done.stdout.strip().splitlines()
    try:
        answer: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        messages = done.stderr.strip().splitlines()
        return {
            "reason": f"the other process ended with {done.returncode}: {messages[-1] if messages else ''}"
        }
    return answer
