"""Stage: price every product of every candidate on this machine, before anything is trained."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch

from imf_deploy.benchmark.conditions import OtherWork, busy_machine, conditions
from imf_deploy.benchmark.inputs import noise
from imf_deploy.benchmark.latency import Latency
from imf_deploy.benchmark.measure import measure
from imf_deploy.benchmark.products import LOADS, ROUNDS, WARMUP_S
from imf_deploy.calib.model import open_float_model
from imf_deploy.calib.quantize import quantize
from imf_deploy.calib.ranges import measure_ranges
from imf_deploy.compat import usable_cpus
from imf_deploy.data import Split
from imf_deploy.data.dataset import MemoryImages
from imf_deploy.errors import ImfDeployError
from imf_deploy.export.stage import write_onnx
from imf_deploy.method.products import Product
from imf_deploy.planning.candidates import Candidate, find_candidates
from imf_deploy.planning.products import noise_images, random_products
from imf_deploy.planning.result import PlanResult, PricedFile, PricedProduct
from imf_deploy.progress import say, track
from imf_deploy.runners.base import Runner
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.settings import DataSettings, PlanSettings
from imf_deploy.settings.compare import CostBudget


@dataclass(frozen=True)
class _Made:
    """A product and its files, not yet measured."""

    candidate: Candidate
    record: Product
    files: dict[str, Path]


def plan(
    config: PlanSettings,
    data: DataSettings = DataSettings(),  # noqa: B008, frozen
    budget: CostBudget = CostBudget(),  # noqa: B008, frozen
) -> PlanResult:
    """Measure latency and size of every product that the candidates would give.

    Networks have random weights, and INT8 files the ranges of random images: neither changes a latency.
    Every layer that can be is INT8; a calibration on data may return some to float. Files are measured at
    batch 1 on the CPU in ONNX Runtime, those of one image size in alternating rounds.

    Args:
        config: The candidates.
        data: Data whose number of classes and image size are used, if they are not given.
        budget: Limits on latency and size.

    Raises:
        UsageError: a candidate cannot be built, or the classes or the image size are not known.
        ImfDeployError: a network cannot be exported.
    """
    candidates = find_candidates(config, data)
    threads = config.threads or usable_cpus()
    before = conditions(threads)
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="imf-deploy-plan-") as temporary:
        made: list[_Made] = []
        with track("Exporting", sum(each.products for each in candidates)) as advance:
            for number, candidate in enumerate(candidates):
                for product in random_products(candidate):
                    files, note = write_files(product, candidate, Path(temporary) / str(number))
                    made.append(_Made(candidate, product, files))
                    notes += [note] if note else []
                    advance(1)
        latencies, other_cpus = _measure(made, threads, config.plan_seconds)
        sizes = {path: path.stat().st_size for each in made for path in each.files.values()}
    if busy := busy_machine(other_cpus, threads, "plan again later"):
        notes.append(busy)
    products = []
    for each in made:
        record = each.record.artifact
        priced = tuple(
            PricedFile(precision, sizes[path], latencies[path]) for precision, path in each.files.items()
        )
        products.append(
            PricedProduct(
                each.candidate.spec,
                each.candidate.teacher,
                record.product,
                record.parameters or 0,
                record.macs or 0,
                priced,
            )
        )
    return PlanResult(tuple(products), budget, tuple(notes), threads, config.plan_seconds, before)


def write_files(product: Product, candidate: Candidate, folder: Path) -> tuple[dict[str, Path], str]:
    """Write the fp32 and the INT8 file of a product; return why there is no INT8 file, or an empty text."""
    folder.mkdir(exist_ok=True)
    stem = product.artifact.path.name
    single, int8 = folder / f"{stem}-fp32.onnx", folder / f"{stem}-int8.onnx"
    write_onnx(product, single, "fp32")
    images = noise_images(candidate)
    split = Split.whole(MemoryImages(images, torch.zeros(len(images), dtype=torch.int64)))
    try:
        model = open_float_model(single)
        int8.write_bytes(quantize(model, measure_ranges(model, split, "minmax"), "onnxruntime-cpu"))
    except ImfDeployError as error:
        return {"fp32": single}, f"{stem} has no INT8 file: {error.what}"
    return {"fp32": single, "int8": int8}, ""


def _measure(made: list[_Made], threads: int, seconds: float) -> tuple[dict[Path, Latency], float]:
    """Return the latency of every file, and how many CPUs other work used at most.

    Files of different image sizes take different inputs, so only those of one size share their rounds.
    """
    by_shape: dict[tuple[int, int, int], list[Path]] = defaultdict(list)
    for each in made:
        by_shape[each.record.shape] += each.files.values()
    count = sum(map(len, by_shape.values()))
    each_s = seconds + ROUNDS * 0.02 + LOADS * (WARMUP_S + 0.05)
    say(f"Measuring the latency of {count} files, about {count * each_s:.0f} s")
    latencies: dict[Path, Latency] = {}
    other_cpus = 0.0
    for shape, paths in by_shape.items():
        runners: dict[str, Runner] = {str(path): OnnxRuntimeRunner(path, threads) for path in paths}
        with OtherWork() as others:
            measured = measure(
                runners,
                noise((1, *shape), "float32", 0),
                duration_s=seconds,
                warmup_s=WARMUP_S,
                rounds=ROUNDS,
                loads=LOADS,
            )
        other_cpus = max(other_cpus, others.cpus)
        latencies |= {path: measured[str(path)] for path in paths}
    return latencies, other_cpus
