"""Measure the latency of deployable files, on one batch, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imf_deploy.benchmark.clients import measure_clients
from imf_deploy.benchmark.conditions import EnergyMeter, OtherWork, conditions, find_energy_meter
from imf_deploy.benchmark.gpu import gpu_parts, gpu_state
from imf_deploy.benchmark.inputs import common_input, noise
from imf_deploy.benchmark.latency import MIN_BLOCKS, ratio
from imf_deploy.benchmark.layers import check_layers, engine_layers
from imf_deploy.benchmark.measure import measure
from imf_deploy.benchmark.result import BenchResult, BenchRow
from imf_deploy.benchmark.startup import start_up
from imf_deploy.benchmark.ways import ways_of, where
from imf_deploy.compat import usable_cpus
from imf_deploy.errors import UsageError
from imf_deploy.files import sha256_file
from imf_deploy.runners.base import SessionRunner
from imf_deploy.runners.opening import Way
from imf_deploy.settings import BenchSettings

if TYPE_CHECKING:
    from imf_deploy.method.products import Product


def bench(
    files: Sequence[Path | Product], config: BenchSettings | None = None, *, seed: int = 0
) -> BenchResult:
    """Measure files side by side, each in the requested ways, at each batch size.

    The input is normal noise of mean 0 and standard deviation 1, the scale of normalised images; for integer
    inputs see :func:`imf_deploy.benchmark.inputs.noise`.

    Args:
        files: ONNX files, engines, stripped weights, and products in memory that take the same input; a
            file may be listed twice.
        config: Ways, batch sizes and times; by default ONNX Runtime and PyTorch on the CPU.
        seed: Seed of the input and of the resampling.

    Raises:
        UsageError: a file has an unknown suffix, files or options are incompatible, or an input is larger
            than a gibibyte.
        DeviceError: there is no GPU for an engine or a device.
        ImfDeployError: a file is damaged, or its runtime is not installed.
    """
    config = config or BenchSettings()
    if not files:
        raise UsageError("there is nothing to measure", "Name a file")
    ways = _named(files, config)
    if config.layers:
        check_layers([where(file) for file in files], list(ways.values()))
    if len(ways) > 1 and config.loads < MIN_BLOCKS:
        raise UsageError(f"a comparison of files needs {MIN_BLOCKS} loads or more, not {config.loads}")
    first = _baseline(ways, config.baseline)
    runners = {name: way.open() for name, way in ways.items()}
    taken = common_input(runners, config.image_size or None)
    taken.check(config.batch)
    meter = find_energy_meter()
    before = conditions(config.threads or None) | {
        "gpu_before": gpu_state(),
        "energy": "RAPL, all processor packages" if isinstance(meter, EnergyMeter) else f"none: {meter}",
    }
    settings = {
        "threads": config.threads or usable_cpus(),
        "duration_s": config.duration,
        "iterations": config.iterations,
        "warmup_s": config.warmup,
        "loads": config.loads,
        "image_shape": list(taken.shape[1:]),
        "input_type": taken.type,
        "baseline": first,
        "seed": seed,
        "clients": list(config.clients),
    }
    hashes = {where(f): sha256_file(f) if isinstance(f, Path) else f.artifact.sha256 for f in files}
    rows: list[BenchRow] = []
    other_cpus = 0.0
    for batch_size in config.batch:
        batch = noise((batch_size, *(side or 1 for side in taken.shape[1:])), taken.type, seed)
        with OtherWork() as others:
            latencies = measure(
                runners,
                batch,
                duration_s=config.duration,
                iterations=config.iterations,
                warmup_s=config.warmup,
                loads=config.loads,
                meter=meter if isinstance(meter, EnergyMeter) else None,
            )
        other_cpus = max(other_cpus, others.cpus)
        listed: set[Path] = set()
        for name, latency in latencies.items():
            way, runner = ways[name], runners[name]
            wanted = config.layers and way.runtime == "tensorrt" and way.path not in listed
            listed.add(way.path)
            rows.append(
                BenchRow(
                    name=name,
                    path=way.path,
                    sha256=hashes[way.path],
                    runner=_told(runner.name, way),
                    way=way.to_dict(),
                    latency=latency,
                    ratio=None if name == first else ratio(latency, latencies[first], seed),
                    start_up=start_up(way, batch, seed) if config.startup else None,
                    gpu_ms=gpu_parts(runner, batch, config.duration, config.iterations, config.warmup),
                    session=runner.session if isinstance(runner, SessionRunner) else None,
                    layers=tuple(engine_layers(way, batch)) if wanted else (),
                    clients=tuple(measure_clients(way, batch, config.clients, config.duration, config.warmup))
                    if config.clients
                    else (),
                )
            )
    return BenchResult(tuple(rows), settings, before | {"gpu_after": gpu_state(), "other_cpus": other_cpus})


def _named(files: Sequence[Path | Product], config: BenchSettings) -> dict[str, Way]:
    """Return every way of every file, by a unique name."""
    named: dict[str, Way] = {}
    for name, file in zip(_names([where(file) for file in files]), files, strict=True):
        ways = ways_of(file, config)
        for way in ways:
            named[f"{name} ({way.label})" if len(ways) > 1 else name] = way
    return named


def _names(paths: Sequence[Path]) -> list[str]:
    """Return short unique names of the files."""
    names: list[str] = []
    same = Counter(path.name for path in paths)
    for path in paths:
        name = path.name if same[path.name] == 1 else str(path)
        again = sum(other == path for other in paths[: len(names)])
        names.append(f"{name} #{again + 1}" if again else name)
    return names


def _baseline(ways: dict[str, Way], wanted: str) -> str:
    """Return the name of the row that ratios are relative to."""
    for name, way in ways.items():
        if wanted in ("", name, way.path.name, str(way.path)):
            return name
    raise UsageError(f"`baseline` {wanted} is not measured", f"Choose from: {', '.join(ways)}")


def _told(runner: str, way: Way) -> str:
    """Return the runtime of a file and its mode, such as ``pytorch, compile``."""
    return runner if not way.label or way.label.startswith(way.runtime) else f"{runner}, {way.label}"
