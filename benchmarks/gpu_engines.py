"""Compare engines with PyTorch and ONNX Runtime on a GPU: the tables of docs/gpu.md, by one command.

    python benchmarks/gpu_engines.py                              # networks with fresh weights, 28 and 224 px
    python benchmarks/gpu_engines.py RUN --json engines.json      # the products of a run
    python benchmarks/gpu_engines.py --batch 1,64 --pixels 28 --budget 300

All rows of one network and batch size are measured in alternating rounds, from and to host memory, by the
code of ``imf-deploy bench``; ratios are medians over the rounds with 95 % intervals. Groups are measured in
the order of the networks and batch sizes, and rows that compile for minutes come last. Every group is printed
and written as soon as it is measured. ``--budget`` ends the list of groups early. A row that cannot run shows
the reason.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_ceilings import Ceilings, layer_costs, measure_ceilings, shares
from gpu_networks import SEEDS, Network, networks_of
from gpu_rivals import RIVALS, SLOW, engine_runner, is_pytorch_fp32, why_not

from imf_deploy.benchmark.conditions import conditions
from imf_deploy.benchmark.gpu import gpu_parts, gpu_state
from imf_deploy.benchmark.int8 import WORTH, compare
from imf_deploy.benchmark.latency import Latency, ratio
from imf_deploy.benchmark.measure import measure
from imf_deploy.errors import ImfDeployError
from imf_deploy.export.flavour import choose_flavour
from imf_deploy.export.tensorrt_writer import build_engine
from imf_deploy.files import write_json
from imf_deploy.runners.base import Runner
from imf_deploy.settings import BatchRange, BuildSettings

ENGINES = ("fp16", "int8", "fp32")
BASELINE = "engine fp16"
ROUNDS, LOADS, WARMUP_S = 36, 6, 0.1
GOALS = {1: 2.5, 64: 5.0}
"""For each batch size, the speed that the fastest engine should reach relative to PyTorch's best mode."""


@dataclass
class Report:
    """The results so far, written after every group."""

    path: Path | None
    deadline: float
    about: dict[str, Any]
    groups: list[dict[str, Any]] = field(default_factory=list)
    builds: list[dict[str, Any]] = field(default_factory=list)

    def out_of_time(self, what: str) -> bool:
        """Report that something is left out, if the budget is used up."""
        over = time.monotonic() > self.deadline
        if over:
            print(f"Left out, the budget is used up: {what}", flush=True)
        return over

    def save(self) -> None:
        """Write all results."""
        if self.path:
            write_json(self.path, self.about | {"builds": self.builds, "groups": self.groups})


def build(network: Network, options: argparse.Namespace, report: Report) -> dict[str, Path]:
    """Build the engines of a network; the reason is printed for those that cannot be built."""
    flavour = choose_flavour("auto").flavour
    engines = {}
    for kind in ENGINES:
        source = network.files.get(kind)
        if source is None or report.out_of_time(f"{network.name}, engine {kind}"):
            continue
        path = options.output / f"{source.stem}-{options.profile.replace(':', '-')}.engine"
        began = time.monotonic()
        try:
            if not flavour:
                raise ImfDeployError("no TensorRT is installed")
            if not path.is_file():
                profile = BatchRange.parse(options.profile)
                build_engine(
                    source, path, flavour, profile, options=BuildSettings(builder_level=options.level)
                )
        except Exception as error:  # the other engines are still built
            print(f"{network.name}: engine {kind} cannot be built: {error}", flush=True)
            continue
        seconds = time.monotonic() - began
        size = path.stat().st_size
        print(f"{network.name}: engine {kind}, {size / 1e6:.1f} MB, built in {seconds:.1f} s", flush=True)
        report.builds.append({"engine": path.name, "seconds": seconds, "bytes": size})
        engines[f"engine {kind}"] = path
    report.save()
    return engines


def measure_group(
    network: Network, batch: int, runners: Mapping[str, Runner], options: argparse.Namespace, report: Report
) -> None:
    """Measure the rows that can run, in alternating rounds; print them and add them to the report."""
    shape = (batch, 3, network.size, network.size)
    reasons = {name: why_not(runner, shape) for name, runner in runners.items()}
    running = {name: runners[name] for name, reason in reasons.items() if not reason}
    group: dict[str, Any] = {"network": network.name, "pixels": network.size, "batch": batch, "rows": []}
    print(f"\n### {network.name}, batch {batch}\n", flush=True)
    if running:
        images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        try:
            found = measure(
                running, images, duration_s=options.duration, warmup_s=WARMUP_S, rounds=ROUNDS, loads=LOADS
            )
        except ImfDeployError as error:
            found, reasons = {}, reasons | {"all": str(error)}
        if found:
            add_rows(group, found, running, images, options)
            print_group(group)
            add_goals(group, found)
            if network.size == 224 and batch >= 64:
                add_shares(group, network, batch, report)
    for name, reason in reasons.items():
        if reason:
            group["rows"].append({"row": name, "reason": reason})
            print(f"- {name} does not run: {reason}", flush=True)
    report.groups.append(group)
    report.save()


def add_rows(
    group: dict[str, Any],
    found: Mapping[str, Latency],
    runners: Mapping[str, Runner],
    images: np.ndarray,
    options: argparse.Namespace,
) -> None:
    """Add results to a group, with the parts of a run on the GPU."""
    baseline = BASELINE if BASELINE in found else next(iter(found))
    for name, latency in found.items():
        against = ratio(latency, found[baseline])
        group["rows"].append(
            {
                "row": name,
                "ratio": [against.value, against.low, against.high],
                "gpu_ms": gpu_parts(runners[name], images, options.duration / 4, 10, WARMUP_S),
                **latency.to_dict(),
            }
        )
    group["baseline"] = baseline


def print_group(group: dict[str, Any]) -> None:
    """Print the rows as a Markdown table."""
    print(f"| row | p50 ms | p99 ms | images/s | GPU compute ms | to {group['baseline']} |")
    print("|---|---|---|---|---|---|")
    for row in group["rows"]:
        compute = f"{row['gpu_ms']['compute_ms']['p50']:.3f}" if row["gpu_ms"] else ""
        value, low, high = row["ratio"]
        print(
            f"| {row['row']} | {row['p50_ms']:.3f} | {row['p99_ms']:.3f} | {row['images_per_second']:.0f} | "
            f"{compute} | {value:.2f} ({low:.2f} to {high:.2f}) |"
        )
    print(flush=True)


def add_goals(group: dict[str, Any], found: Mapping[str, Latency]) -> None:
    """Compare the fastest engine with PyTorch's best mode, and INT8 with fp16."""
    engines = {name: latency for name, latency in found.items() if name.startswith("engine")}
    lines = []
    fastest = min(engines, key=lambda name: engines[name].p50, default="")
    for told, chosen in (
        ("PyTorch's best mode in fp32", [name for name in found if is_pytorch_fp32(name)]),
        ("PyTorch's best mode in any precision", [name for name in found if name.startswith("PyTorch")]),
    ):
        if not (engines and chosen):
            continue
        best = min(chosen, key=lambda name: found[name].p50)
        faster = ratio(found[best], found[fastest])
        goal = GOALS.get(group["batch"]) if "fp32" in told else None
        verdict = "" if goal is None else f"; goal {goal}: {'reached' if faster.value >= goal else 'missed'}"
        lines.append(
            f"The fastest engine ({fastest}) is {faster.value:.2f} times as fast as {told} ({best}; 95 % "
            f"interval {faster.low:.2f} to {faster.high:.2f}){verdict}"
        )
    if "engine int8" in found and "engine fp16" in found:
        int8 = found["engine int8"]
        lines.append(compare("INT8", int8, ratio(int8, found["engine fp16"]), "fp16", WORTH))
    group["goals"] = lines
    for line in lines:
        print(f"- {line}", flush=True)


def add_shares(group: dict[str, Any], network: Network, batch: int, report: Report) -> None:
    """Compare the engines' compute times with the limits of the device's memory and arithmetic."""
    ceilings = Ceilings(**report.about["ceilings"])
    costs = layer_costs(network.module.cpu(), network.size)
    for row in group["rows"]:
        if not (row["row"].startswith("engine") and row["gpu_ms"]):
            continue
        seconds = row["gpu_ms"]["compute_ms"]["p50"] / 1e3
        row["shares"] = shares(costs, batch, ceilings, seconds)
        told = ", ".join(
            f"{row['shares'][name]:.0%} of {name}" for name in ("memory", "arithmetic", "layers")
        )
        print(f"- {row['row']}: {batch / seconds:.0f} images/s computed; of its ceilings in fp16: {told}")


def groups(
    networks: list[Callable[[], Network]], options: argparse.Namespace
) -> Iterator[tuple[Network, int]]:
    """Yield networks and batch sizes: every network at its first batch sizes before any at the next ones."""
    sizes = [int(word) for word in options.batch.split(",")]
    for part in (sizes[:2], sizes[2:]):
        for network in networks:
            for size in part:
                yield network(), size


def run(networks: list[Callable[[], Network]], options: argparse.Namespace) -> None:
    """Build, measure, print and write."""
    report = Report(options.json, time.monotonic() + options.budget, conditions() | {"gpu": gpu_state()})
    report.about["ceilings"] = vars(measure_ceilings())
    print(f"{report.about['gpu']}\n{report.about['versions']}\nCeilings: {report.about['ceilings']}")
    rivals = {name: opened for name, opened in RIVALS.items() if any(w in name for w in options.rivals)}
    engines: dict[str, dict[str, Path]] = {}
    later = []
    for network, batch in groups(networks, options):
        if network.name not in engines:
            engines[network.name] = build(network, options, report)
        if report.out_of_time(f"{network.name}, batch {batch}"):
            continue
        own = {name: engine_runner(path) for name, path in engines[network.name].items()}
        fast = {name: opened(network) for name, opened in rivals.items() if name not in SLOW}
        measure_group(network, batch, own | fast, options, report)
        later.append((network, batch))
    for network, batch in later:
        slow = {name: opened(network) for name, opened in rivals.items() if name in SLOW}
        if not slow or report.out_of_time(f"{network.name}, batch {batch}, {', '.join(slow)}"):
            continue
        own = {name: engine_runner(path) for name, path in engines[network.name].items()}
        measure_group(network, batch, own | slow, options, report)
    report.about["gpu_after"] = gpu_state()
    report.save()


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", nargs="*", type=Path, help="run folders or stripped students")
    parser.add_argument("--seeds", default=SEEDS, help="MODEL:PRODUCT:PIXELS, if no input is given")
    parser.add_argument("--pixels", default="28,224")
    parser.add_argument("--batch", default="1,64,8,256", help="the first two are measured first")
    parser.add_argument(
        "--rivals", default="PyTorch,ONNX", type=lambda text: text.split(","), help="parts of names"
    )
    parser.add_argument("--profile", default="1:8:256", help="batch range of the engines")
    parser.add_argument("--level", type=int, help="how much TensorRT's builder tries, 0 to 5")
    parser.add_argument("--duration", type=float, default=0.7, help="seconds for each row")
    parser.add_argument("--budget", type=float, default=3600.0, help="seconds for everything")
    parser.add_argument("--output", type=Path, default=Path("runs/gpu-engines"), help="folder of files")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--prepare", action="store_true", help="write the ONNX files and stop; needs no GPU")
    options = parser.parse_args()
    pixels = {int(word) for word in options.pixels.split(",")}
    networks = networks_of(options.inputs, options.seeds, pixels, options.output)
    if options.prepare:
        for network in networks:
            print(network().name, *network().files.values())
        return
    if not torch.cuda.is_available():
        parser.error("this benchmark needs a CUDA device; --prepare writes its files without one")
    options.output.mkdir(parents=True, exist_ok=True)
    run(networks, options)


if __name__ == "__main__":
    main()
