"""Measure the latency of deployable files, on one batch, side by side."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imf_deploy.benchmark.clients import check_clients, measure_clients
from imf_deploy.benchmark.conditions import OtherWork, conditions
from imf_deploy.benchmark.energy import EnergyMeter, find_energy_meter
from imf_deploy.benchmark.gpu import gpu_parts, gpu_state
from imf_deploy.benchmark.inputs import common_input, noise
from imf_deploy.benchmark.latency import MIN_BLOCKS, ratio
from imf_deploy.benchmark.layers import check_layers, engine_layers
from imf_deploy.benchmark.measure import check_settings, measure
from imf_deploy.benchmark.result import BenchResult, BenchRow
from imf_deploy.benchmark.startup import start_up
from imf_deploy.benchmark.ways import Choice, ways_of, where
from imf_deploy.compat import usable_cpus
from imf_deploy.errors import UsageError
from imf_deploy.files import sha256_file
from imf_deploy.method.products import Product
from imf_deploy.runners.base import Batch, SessionRunner
from imf_deploy.runners.opening import Way


def bench(
    files: Sequence[Path | Product],
    choice: Choice | None = None,
    *,
    batch_sizes: Sequence[int] = (1,),
    duration_s: float = 3.0,
    iterations: int = 10,
    warmup_s: float = 0.1,
    rounds: int | None = None,
    loads: int = 20,
    image_size: int | None = None,
    baseline: str = "",
    startup: bool = True,
    layers: bool = False,
    clients: Sequence[int] = (),
    seed: int = 0,
) -> BenchResult:
    """Measure files side by side, each in the requested ways, at each batch size.

    The input is normal noise of mean 0 and standard deviation 1, the scale of normalised images; for integer
    inputs see :func:`imf_deploy.benchmark.inputs.noise`.

    Args:
        files: ONNX files, engines, stripped weights, and products in memory that take the same input; a
            file may be listed twice.
        choice: Runtimes, devices and modes; by default ONNX Runtime and PyTorch on the CPU.
        batch_sizes: Images in a batch.
        duration_s: Minimum time in seconds that each row is measured for.
        iterations: Minimum number of inferences of each row.
        warmup_s: Minimum time of each warm-up in seconds.
        rounds: See :func:`measure`.
        loads: Number of loads of each file; a comparison needs six.
        image_size: Height and width in pixels, for files that leave them free.
        baseline: Name or path of the file, or name of the row, that ratios are relative to; by default the
            first row.
        startup: Whether to measure load time, first inference and memory, each in a new process.
        layers: Whether to list the layers of engines, with the time of each.
        clients: Numbers of clients that send requests at the same time; each row is also measured with them.
        seed: Seed of the input and of the resampling.

    Raises:
        UsageError: a file has an unknown suffix, files or options are incompatible, or an input is larger
            than a gibibyte.
        DeviceError: there is no GPU for an engine or a device.
        ImfDeployError: a file is damaged, or its runtime is not installed.
    """
    choice = choice or Choice()
    choice.check()
    check_settings(duration_s, iterations, warmup_s, rounds or 1, loads)
    if not files or not batch_sizes:
        raise UsageError("there is nothing to measure", "Name a file and a batch size")
    if min(batch_sizes) < 1:
        raise UsageError("`batch` must be 1 or more")
    check_clients(clients)
    ways = _named(files, choice)
    if layers:
        check_layers([where(file) for file in files], list(ways.values()))
    blocks = loads if loads > 1 else rounds or 1
    if len(ways) > 1 and blocks < MIN_BLOCKS:
        raise UsageError(f"a comparison of files needs {MIN_BLOCKS} loads or more, not {loads}")
    first = _baseline(ways, baseline)
    runners = {name: way.open() for name, way in ways.items()}
    taken = common_input(runners, image_size)
    taken.check(batch_sizes)
    meter = find_energy_meter()
    before = conditions(choice.threads) | {
        "gpu_before": gpu_state(),
        "energy": "RAPL, all processor packages" if isinstance(meter, EnergyMeter) else f"none: {meter}",
    }
    settings = {
        "threads": choice.threads or usable_cpus(), "duration_s": duration_s, "iterations": iterations,
        "warmup_s": warmup_s, "rounds": rounds, "loads": loads, "image_shape": list(taken.shape[1:]),
        "input_type": taken.type, "baseline": first, "seed": seed,
        "clients": list(clients),
    }  # fmt: skip
    hashes = {where(f): sha256_file(f) if isinstance(f, Path) else f.artifact.sha256 for f in files}
    rows: list[BenchRow] = []
    other_cpus = 0.0
    for batch_size in batch_sizes:
        batch = noise((batch_size, *(side or 1 for side in taken.shape[1:])), taken.type, seed)
        with OtherWork() as others:
            found = measure(
                runners,
                batch,
                duration_s=duration_s,
                iterations=iterations,
                warmup_s=warmup_s,
                rounds=rounds,
                loads=loads,
                meter=meter if isinstance(meter, EnergyMeter) else None,
            )
        other_cpus = max(other_cpus, others.cpus)
        listed: set[Path] = set()
        for name, latency in found.items():
            way, runner = ways[name], runners[name]
            wanted = layers and way.runtime == "tensorrt" and way.path not in listed
            listed.add(way.path)
            rows.append(
                BenchRow(
                    name=name,
                    path=way.path,
                    sha256=hashes[way.path],
                    runner=_told(runner.name, way),
                    way=way.to_dict(),
                    latency=latency,
                    ratio=None if name == first else ratio(latency, found[first], seed),
                    start_up=_start_up(way, batch, seed) if startup else None,
                    gpu_ms=gpu_parts(runner, batch, duration_s, iterations, warmup_s),
                    session=runner.session if isinstance(runner, SessionRunner) else None,
                    layers=tuple(engine_layers(way, batch)) if wanted else (),
                    clients=tuple(measure_clients(way, batch, clients, duration_s, warmup_s))
                    if clients
                    else (),
                )
            )
    return BenchResult(tuple(rows), settings, before | {"gpu_after": gpu_state(), "other_cpus": other_cpus})


def _start_up(way: Way, batch: Batch, seed: int) -> dict[str, Any]:
    return {"reason": "it is in memory"} if way.product else start_up(way, batch, seed)


def _named(files: Sequence[Path | Product], choice: Choice) -> dict[str, Way]:
    """Return every way of every file, by a unique name."""
    named: dict[str, Way] = {}
    for name, file in zip(_names([where(file) for file in files]), files, strict=True):
        ways = ways_of(file, choice)
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
