"""Check that `imf-deploy bench` measures the runtime and not itself.

MobileNetV2 at batch 1 in ONNX Runtime: the p50 of `imf_deploy.benchmark.measure` is compared with that of a
bare loop around `session.run`, in the same process and the same session, in alternating slices. The overhead
of the harness itself on every inference is measured with a runner that does nothing.

    python benchmarks/harness_overhead.py --trials 10 --threads 1
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Self

import numpy as np

from imf_deploy.benchmark.conditions import conditions
from imf_deploy.benchmark.measure import measure
from imf_deploy.export.onnx_writer import export_onnx
from imf_deploy.files import write_json
from imf_deploy.models import ModelSpec, build_model
from imf_deploy.runners.base import Batch, Logits
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner

SLICES = 40


class Opened(OnnxRuntimeRunner):
    """A runner that stays open, so that both loops use one session."""

    def __enter__(self) -> Self:
        return self if self._session else super().__enter__()

    def __exit__(self, *_: object) -> None:
        """Stay open."""

    def bare(self, batch: Batch, seconds: float) -> list[int]:
        """Time ``session.run`` in a plain loop; return nanoseconds."""
        session, feed, samples = self._session, {self.input_name: batch}, []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter_ns()
            session.run(None, feed)
            samples.append(time.perf_counter_ns() - start)
        return samples


class Nothing:
    """A runner whose inference takes no time."""

    name = "nothing"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to release."""

    def infer(self, batch: Batch) -> Logits:
        """Return the batch."""
        return batch


def trial(runner: Opened, batch: Batch, seconds: float) -> tuple[float, float]:
    """Return the p50 in milliseconds of our loop and of the bare one, in alternating slices."""
    ours: list[float] = []
    bare: list[int] = []
    for index in range(SLICES):
        for mine in (index % 2 == 0, index % 2 == 1):
            if mine:
                found = measure({"file": runner}, batch, duration_s=seconds, warmup_s=0.02, rounds=1, loads=1)
                ours += found["file"].samples_ms.tolist()
            else:
                runner.bare(batch, 0.02)
                bare += runner.bare(batch, seconds)
    return float(np.median(ours)), float(np.median(bare)) / 1e6


def overhead_ns() -> tuple[float, float]:
    """Return the overhead in a sample (p50), and the overhead of the loop per inference."""
    batch = np.zeros((1, 1), np.float32)
    began = time.perf_counter()
    found = measure({"nothing": Nothing()}, batch, duration_s=1.0, warmup_s=0.0, rounds=1, loads=1)
    took = time.perf_counter() - began
    return found["nothing"].p50 * 1e6, took / found["nothing"].count * 1e9


def main() -> None:
    """Print one line per trial, then the number of trials within 3 %."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--slice", type=float, default=0.03, help="Seconds of a slice.")
    parser.add_argument("--output", type=Path, default=Path("runs/harness-overhead.json"))
    options = parser.parse_args()
    before, size = conditions(options.threads), options.image_size
    batch = np.random.default_rng(0).standard_normal((1, 3, size, size), dtype=np.float32)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mobilenetv2.onnx"
        module = build_model(ModelSpec.for_images("mobilenetv2", 10, size)).eval()
        export_onnx(module, path, "fp32", size, {})
        with Opened(path, options.threads) as runner:
            for index in range(options.trials):
                ours, bare = trial(runner, batch, options.slice)
                rows.append({"ours_p50_ms": ours, "bare_p50_ms": bare})
                print(f"{index + 1}: ours {ours:.4f} ms, bare {bare:.4f} ms, {ours / bare:.4f}", flush=True)
    within = sum(abs(row["ours_p50_ms"] / row["bare_p50_ms"] - 1) <= 0.03 for row in rows)
    sample, loop = overhead_ns()
    print(f"within 3 % in {within} of {len(rows)} trials")
    print(f"the harness adds {sample:.0f} ns to a sample, and {loop:.0f} ns to the time between two")
    result = {"rows": rows, "sample_ns": sample, "loop_ns": loop, "conditions": before}
    write_json(options.output, result)


if __name__ == "__main__":
    main()
