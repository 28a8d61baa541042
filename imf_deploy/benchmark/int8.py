"""Whether INT8 is worthwhile on this machine: sentences for terminals and reports."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from imf_deploy.artifact import load_artifact
from imf_deploy.benchmark.latency import Latency, Ratio, ratio
from imf_deploy.benchmark.measure import measure
from imf_deploy.benchmark.products import LOADS, ROUNDS, WARMUP_S, FileLatency
from imf_deploy.benchmark.result import BenchRow
from imf_deploy.errors import ImfDeployError
from imf_deploy.records.files import DeployableFile
from imf_deploy.runners.engine_facts import why_not_here
from imf_deploy.runners.tensorrt import TensorRTRunner
from imf_deploy.show.format import significant

WORTH = 1.15
"""Minimum speed relative to fp16 at which an INT8 engine is worth its loss of accuracy."""


def does_int8_pay(files: Sequence[DeployableFile], latencies: dict[str, FileLatency]) -> list[str]:
    """Return a sentence for each INT8 file that was timed next to fp32: faster, slower, or no difference."""
    return [
        compare(f"INT8 of {file.product}", timed.file, timed.to_fp32, "fp32", worth=1.0)
        for file in files
        if (timed := latencies.get(file.sha256)) is not None and timed.to_fp32 is not None
    ]


def do_int8_engines_pay(files: Sequence[DeployableFile], seconds: float) -> list[str]:
    """Measure INT8 engines against the fp16 engines of the same products, at batch 1, if a GPU runs them.

    Args:
        files: All files of a run; engines that this machine cannot run are left out.
        seconds: Minimum time in seconds that each engine is measured for.

    Returns:
        A sentence for each pair.
    """
    engines = {
        (file.product, file.precision): file
        for file in files
        if file.kind == "engine" and not why_not_here(file.path)
    }
    sentences = []
    for (name, precision), int8 in engines.items():
        half = engines.get((name, "fp16"))
        if precision != "int8" or half is None:
            continue
        image = np.random.default_rng(0).standard_normal((1, *int8.preprocess.shape), dtype=np.float32)
        runners = {file.precision: TensorRTRunner(file.path) for file in (half, int8)}
        try:
            latencies = measure(
                runners, image, duration_s=seconds, warmup_s=WARMUP_S, rounds=ROUNDS, loads=LOADS
            )
        except ImfDeployError as error:  # this is only advice, and must not end a run
            sentences.append(f"The engines of {name} were not timed: {error}")
        else:
            sentences.append(_engine_sentence(name, latencies["int8"], latencies["fp16"]))
    return sentences


def int8_rows(rows: Sequence[BenchRow]) -> list[str]:
    """Return a sentence for each INT8 engine that was measured next to an fp16 one of the same product.

    Both have the same batch, and both run with a CUDA graph or both without one.
    """
    known = {row.path: _product(row.path) for row in rows if row.way["runtime"] == "tensorrt"}
    sentences = []
    for int8, half in product(rows, rows):
        (name, precision), (other, other_precision) = (known.get(row.path, ("", "")) for row in (int8, half))
        same = int8.way["cuda_graph"] == half.way["cuda_graph"] and int8.latency.images == half.latency.images
        if name and name == other and same and (precision, other_precision) == ("int8", "fp16"):
            label = f"{name}, batch {int8.latency.images}" + (
                ", CUDA graph" if int8.way["cuda_graph"] else ""
            )
            sentences.append(_engine_sentence(label, int8.latency, half.latency))
    return sentences


def _product(path: Path) -> tuple[str, str]:
    """Return product and precision of an engine, empty if it has no record."""
    try:
        record = load_artifact(path, DeployableFile)
    except ImfDeployError:
        return "", ""
    return record.product, record.precision


def _engine_sentence(name: str, int8: Latency, half: Latency) -> str:
    return compare(f"The INT8 engine of {name}", int8, ratio(int8, half), "fp16", WORTH)


def compare(name: str, int8: Latency, seen: Ratio, other: str, worth: float) -> str:
    """Return a sentence about a ratio of latencies.

    Args:
        name: Subject of the sentence.
        int8: Its latency.
        seen: The ratio of its latency to the other's.
        other: Precision of the other.
        worth: Minimum speed relative to the other; below it the sentence recommends the other.
    """
    beside = f"{significant(int8.p50)} ms; 95 % interval"
    faster, interval = 1 / seen.value, f"{1 / seen.high:.2f} to {1 / seen.low:.2f}"
    if not seen.differs:
        return (
            f"{name} is not faster here: no difference from {other} was found "
            f"({seen.value:.2f} times its latency, {beside} {seen.low:.2f} to {seen.high:.2f})"
        )
    if seen.value > 1:
        return (
            f"{name} is slower than {other}: {seen.value:.2f} times its latency "
            f"({beside} {seen.low:.2f} to {seen.high:.2f})"
        )
    if faster < worth:
        return (
            f"{name} is not worthwhile here: it is only {faster:.2f} times as fast as {other} "
            f"({beside} {interval}), and rounding is worthwhile from {worth} on. Use {other}"
        )
    return f"{name} is {faster:.2f} times as fast as {other} ({beside} {interval})"
