"""Measure deployable files: what each one takes, on one batch, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imf_deploy.bench.conditions import conditions
from imf_deploy.bench.latency import MIN_ROUNDS, Latency, Ratio, ratio
from imf_deploy.bench.measure import check_settings, measure
from imf_deploy.compat import usable_cpus
from imf_deploy.errors import UsageError
from imf_deploy.files import existing_file, sha256_file
from imf_deploy.runners.base import Batch, DeployableRunner, InputShape
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.runners.tensorrt import TensorRTRunner

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = 1
_UNSTEADY = 0.1


def _engine(path: Path, threads: int) -> DeployableRunner:
    return TensorRTRunner(path)


OPENERS: dict[str, Callable[[Path, int], DeployableRunner]] = {
    ".onnx": OnnxRuntimeRunner,
    ".engine": _engine,
    ".trt": _engine,
    ".plan": _engine,
}
"""Suffix to the function that gives a file's runner; it also gets the number of threads."""


@dataclass(frozen=True)
class BenchRow:
    """One file at one batch size.

    Attributes:
        name: The file's name, as short as the others allow.
        path: The file.
        sha256: Of the file, so that its latency meets its own accuracy.
        runner: What ran it.
        latency: What was measured.
        ratio: Latency against the first file's in the same rounds; ``None`` for the first itself.
    """

    name: str
    path: Path
    sha256: str
    runner: str
    latency: Latency
    ratio: Ratio | None


@dataclass(frozen=True)
class BenchResult:
    """Everything a reader of the numbers needs.

    Attributes:
        rows: By batch size, then in the order of the files.
        settings: Durations, iterations and rounds.
        conditions: Machine and versions, taken before the first measurement.
    """

    rows: tuple[BenchRow, ...]
    settings: dict[str, Any]
    conditions: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        rows = [
            {
                "name": row.name,
                "path": str(row.path),
                "sha256": row.sha256,
                "runner": row.runner,
                **row.latency.to_dict(),
                "ratio": row.ratio and [row.ratio.value, row.ratio.low, row.ratio.high],
            }
            for row in self.rows
        ]
        return {
            "schema": SCHEMA, "rows": rows, "settings": self.settings, "conditions": self.conditions
        }  # fmt: skip


def bench(
    paths: Sequence[Path],
    *,
    batch_sizes: Sequence[int] = (1,),
    threads: int | None = None,
    duration_s: float = 3.0,
    iterations: int = 10,
    warmup_s: float = 0.2,
    rounds: int = 30,
    image_size: int | None = None,
    seed: int = 0,
) -> BenchResult:
    """Measure files side by side, for each batch size; the first file is the baseline.

    The input is normal noise of mean 0 and deviation 1, the scale of normalised pictures.

    Args:
        paths: ONNX files and engines that take pictures of the same size; a file may come twice.
        batch_sizes: Images in a batch.
        threads: Threads of a CPU runner; by default every CPU that this process may use.
        duration_s: Least time that each file is measured for, in seconds, at each batch size.
        iterations: Least number of inferences of each file at each batch size.
        warmup_s: Least time of each warm-up, in seconds.
        rounds: Number of rounds that the time is cut into.
        image_size: Height and width in pixels, for files that leave them free.
        seed: Of the input and of the resampling.

    Raises:
        UsageError: a file cannot be told by its suffix, files or options do not fit together.
        DeviceError: an engine, and no GPU for it.
        ImfDeployError: a file is damaged.
    """
    check_settings(duration_s, iterations, warmup_s, rounds)
    if not paths or not batch_sizes:
        raise UsageError("there is nothing to measure", "Name a file and a batch size")
    if min(batch_sizes) < 1 or (threads is not None and threads < 1):
        raise UsageError("--batch and --threads must be 1 or more")
    if len(paths) > 1 and rounds < MIN_ROUNDS:
        raise UsageError(f"to compare files takes {MIN_ROUNDS} rounds or more, not {rounds}")
    threads = threads or usable_cpus()
    names = _names(paths)
    files = dict(zip(names, paths, strict=True))
    runners = {name: _open(path, threads) for name, path in files.items()}
    shape = _common_shape(runners, image_size)
    settings = {
        "threads": threads, "duration_s": duration_s, "iterations": iterations, "warmup_s": warmup_s,
        "rounds": rounds, "image_shape": list(shape[1:]), "seed": seed,
    }  # fmt: skip
    before = conditions(threads)
    hashes = {name: sha256_file(path) for name, path in files.items()}
    rows: list[BenchRow] = []
    for batch_size in batch_sizes:
        batch = _noise(shape, batch_size, seed)
        found = measure(
            runners, batch, duration_s=duration_s, iterations=iterations, warmup_s=warmup_s, rounds=rounds
        )
        for name, latency in found.items():
            against = None if name == names[0] else ratio(latency, found[names[0]], seed)
            row = BenchRow(name, files[name], hashes[name], runners[name].name, latency, against)
            rows.append(row)
    return BenchResult(tuple(rows), settings, before)


def render(result: BenchResult) -> Table:
    """Return the result as a table for a terminal of 80 columns; times are in milliseconds."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    title = f"Latency in ms (threads: {result.settings['threads']}, CPU: {result.conditions['cpu']})"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("file", overflow="fold", min_width=12)
    for heading in ("batch", "p50", "p90", "p99", "images/s", "CV", "to the first"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in result.rows:
        seen = row.latency
        steady = f"{seen.variation:.0%}" + (" !" if seen.variation > _UNSTEADY else "")
        numbers = [_significant(value) for value in (seen.p50, seen.p90, seen.p99, seen.throughput)]
        against = (
            "" if row.ratio is None else f"{row.ratio.value:.3f}\n{row.ratio.low:.3f}-{row.ratio.high:.3f}"
        )
        file = f"{escape(row.name)}\n[dim]{row.runner}[/dim]"
        table.add_row(file, str(seen.images), *numbers, steady, against)
    if any(row.latency.variation > _UNSTEADY for row in result.rows):
        table.caption = f"! varies by more than {_UNSTEADY:.0%}: the machine is busy, or its clock changes"
    return table


def _open(path: Path, threads: int) -> DeployableRunner:
    """Return the runner of a file."""
    opener = OPENERS.get(path.suffix.lower())
    if opener is None:
        raise UsageError(
            f"{path} cannot be measured: its suffix is none of {', '.join(OPENERS)}", "Rename or export it"
        )
    return opener(existing_file(path, "the file to measure"), threads)


def _common_shape(runners: dict[str, DeployableRunner], image_size: int | None) -> InputShape:
    """Return the one input shape of all files, ``[N or None, C, H, W]``; loads each file once."""
    shapes: dict[str, InputShape] = {}
    for name, runner in runners.items():
        # Before anything is timed: a file that does not load must not cost the others' minutes.
        with runner:
            shapes[name] = _filled(name, runner.input_shape, image_size)
    if len({shape[1:] for shape in shapes.values()}) > 1:
        told = ", ".join(f"{name} {list(shape[1:])}" for name, shape in shapes.items())
        raise UsageError(f"the files take different images: {told}", "Measure them apart")
    fixed = {shape[0] for shape in shapes.values()} - {None}
    if len(fixed) > 1:
        told = ", ".join(f"{name} {shape[0] or 'any'}" for name, shape in shapes.items())
        raise UsageError(f"the files take different batch sizes: {told}", "Measure them apart")
    return (fixed.pop() if fixed else None, *next(iter(shapes.values()))[1:])


def _filled(name: str, shape: InputShape, image_size: int | None) -> InputShape:
    """Return a file's input shape with its free height and width filled in."""
    if len(shape) != 4:
        raise UsageError(f"{name} takes an input of {len(shape)} dimensions, not [N, C, H, W]")
    number, channels, *sides = shape
    if image_size is None and None in sides:
        raise UsageError(f"{name} leaves the size of its images free", "Give --image-size PIXELS")
    if image_size is not None and any(side not in (None, image_size) for side in sides):
        raise UsageError(f"{name} takes images of {sides} only", "Leave --image-size out")
    return (number, 3 if channels is None else channels, *(side or image_size for side in sides))


def _noise(shape: InputShape, batch_size: int, seed: int) -> Batch:
    """Return the input, ``float32 [batch_size, C, H, W]``."""
    if shape[0] not in (None, batch_size):
        raise UsageError(
            f"a file takes batches of {shape[0]} only, not {batch_size}", f"Give --batch {shape[0]}"
        )
    size = (batch_size, *(side or 1 for side in shape[1:]))
    return np.random.default_rng(seed).standard_normal(size, dtype=np.float32)


def _names(paths: Sequence[Path]) -> list[str]:
    """Return short names that tell the files apart."""
    names: list[str] = []
    for path in paths:
        alone = sum(other.name == path.name for other in paths) == 1
        name = path.name if alone else str(path)
        again = sum(other == path for other in paths[: len(names)])
        names.append(f"{name} #{again + 1}" if again else name)
    return names


def _significant(value: float) -> str:
    """Return a positive number with four significant digits, and no more than four decimals."""
    return f"{value:.{min(max(3 - math.floor(math.log10(value)), 0), 4)}f}" if value > 0 else "0"
