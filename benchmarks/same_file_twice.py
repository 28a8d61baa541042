"""Check the intervals of `imf-deploy bench` on this machine, with real sessions.

The same file against itself must show no difference; a file with a tenth more work, and the same file behind
a wrapper that burns a twentieth of its time more, must be slower. The network is a stack of equal
convolutions, so that a tenth more work is a tenth more layers.

    python benchmarks/same_file_twice.py --runs 20 --threads 1
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.benchmark.conditions import conditions
from imf_deploy.benchmark.latency import ratio
from imf_deploy.benchmark.measure import measure
from imf_deploy.files import write_json
from imf_deploy.runners.base import Batch, Logits, Runner
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner

CHANNELS, SIDE, LAYERS = 64, 28, 20


def stack(path: Path, layers: int) -> Path:
    """Write ``layers`` 3x3 convolutions, each with a ReLU: ``[N, 64, 28, 28]`` in and out."""
    random = np.random.default_rng(0)
    nodes, weights = [], []
    for index in range(layers):
        scale = (2 / (CHANNELS * 9)) ** 0.5  # keeps the size of activations from layer to layer
        weight = random.normal(0, scale, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        nodes += [
            helper.make_node("Conv", [f"x{index}", f"w{index}"], [f"c{index}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{index}"], [f"x{index + 1}"]),
        ]
    shape = ["n", CHANNELS, SIDE, SIDE]
    ends = [helper.make_tensor_value_info(f"x{index}", TensorProto.FLOAT, shape) for index in (0, layers)]
    graph = helper.make_graph(nodes, "stack", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


class Burning(OnnxRuntimeRunner):
    """A file that takes a twentieth longer: its inference, then a loop that does nothing."""

    part = 0.05

    def infer(self, batch: Batch) -> Logits:
        """Return the logits, late."""
        start = time.perf_counter_ns()
        logits = super().infer(batch)
        stop = time.perf_counter_ns()
        end = stop + int((stop - start) * self.part)
        while time.perf_counter_ns() < end:
            pass
        return logits


def main() -> None:
    """Print one line per run, then the number of runs with the right result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--duration", type=float, default=3.0)
    parser.add_argument("--loads", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("runs/same-file-twice.json"))
    options = parser.parse_args()
    before = conditions(options.threads)
    rows: list[dict[str, Any]] = []
    batch = np.random.default_rng(0).standard_normal((1, CHANNELS, SIDE, SIDE), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        base = stack(Path(folder) / "base.onnx", LAYERS)
        files = {"base": base, "same": base, "more": stack(Path(folder) / "more.onnx", LAYERS * 11 // 10)}
        for run in range(options.runs):
            runners: dict[str, Runner] = {
                name: OnnxRuntimeRunner(path, options.threads) for name, path in files.items()
            }
            runners["burn"] = Burning(base, options.threads)
            found = measure(runners, batch, duration_s=options.duration, loads=options.loads)
            ratios = {name: ratio(found[name], found["base"]) for name in ("same", "more", "burn")}
            rows.append(
                {"base_p50_ms": found["base"].p50}
                | {name: [seen.value, seen.low, seen.high] for name, seen in ratios.items()}
            )
            told = ", ".join(
                f"{name} {seen.value:.3f} ({seen.low:.3f} to {seen.high:.3f})"
                for name, seen in ratios.items()
            )
            print(f"{run + 1}: {found['base'].p50:.3f} ms, {told}", flush=True)
    equal = sum(row["same"][1] <= 1 <= row["same"][2] for row in rows)
    print(f"the same file is no different in {equal} of {options.runs} runs")
    for name, words in (("more", "a tenth more work"), ("burn", "a wrapper that burns 5 %")):
        slower = sum(row[name][1] > 1 for row in rows)
        print(f"{words} is slower in {slower} of {options.runs} runs")
    settings = {"runs": options.runs, "duration_s": options.duration, "loads": options.loads}
    write_json(options.output, {"rows": rows, "settings": settings, "conditions": before})


if __name__ == "__main__":
    main()
