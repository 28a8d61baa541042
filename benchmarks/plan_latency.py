"""Compare the latency of files with random weights, as a plan makes them, with that of trained files.

    python benchmarks/plan_latency.py imf-deploy-out [--seconds 3]

The ONNX files of a run and those that ``imf-deploy plan`` would measure for its student are timed in the same
alternating rounds, with one thread. The ratio is the latency with random weights divided by the other.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from imf_deploy.artifact import load_artifact
from imf_deploy.benchmark.inputs import noise
from imf_deploy.benchmark.latency import ratio
from imf_deploy.benchmark.measure import measure
from imf_deploy.planning.candidates import find_candidates
from imf_deploy.planning.products import random_products
from imf_deploy.planning.stage import write_files
from imf_deploy.records.files import OnnxFile
from imf_deploy.records.report import read_report
from imf_deploy.runners.base import Runner
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.settings import DataSettings, PlanSettings


def main() -> None:
    """Read the command line, measure, and print one row for each file of the run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    report = read_report(given.run / "report.json")
    trained = {
        (row.product, row.precision): given.run / row.path
        for row in report.artifacts
        if row.latency_ms and row.precision in ("fp32", "int8")
    }
    own = load_artifact(next(iter(trained.values())), OnnxFile).preprocess
    wanted = PlanSettings(
        (report.student,), image_sizes=(own.size,), classes=own.num_classes, teacher=report.teacher
    )
    (candidate,) = find_candidates(wanted, DataSettings(channels=own.channels))
    with tempfile.TemporaryDirectory() as folder:
        random: dict[tuple[str, str], Path] = {}
        for product in random_products(candidate):
            files, _ = write_files(product, candidate, Path(folder))
            random |= {(product.name, precision): path for precision, path in files.items()}
        shared = [key for key in trained if key in random]
        runners: dict[str, Runner] = {}
        for key in shared:
            runners[f"trained {key}"] = OnnxRuntimeRunner(trained[key], 1)
            runners[f"random {key}"] = OnnxRuntimeRunner(random[key], 1)
        measured = measure(runners, noise((1, *own.shape), "float32", 0), duration_s=given.seconds)
    print("| product | precision | trained, ms | random, ms | ratio (95 % interval) |\n|---|---|---|---|---|")
    for key in shared:
        trained_ms, random_ms = measured[f"trained {key}"], measured[f"random {key}"]
        change = ratio(random_ms, trained_ms)
        numbers = f"{trained_ms.p50:.4f} | {random_ms.p50:.4f}"
        interval = f"{change.low:.3f}–{change.high:.3f}"
        print(f"| {key[0]} | {key[1]} | {numbers} | {change.value:.3f} ({interval}) |")


if __name__ == "__main__":
    main()
