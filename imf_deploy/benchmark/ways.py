"""The ways in which a deployable file is measured: runtimes, devices, modes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imf_deploy.artifact import load_artifact
from imf_deploy.compat import usable_cpus
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import existing_file
from imf_deploy.runners.opening import Way
from imf_deploy.settings import BenchSettings

if TYPE_CHECKING:
    from imf_deploy.method.products import Product


def ways_of(file: Path | Product, config: BenchSettings) -> list[Way]:
    """Return the ways to run a file, or a product in memory.

    Raises:
        UsageError: there is no such file, or its suffix is not one of ``WAYS``.
    """
    path = where(file)
    if not isinstance(file, Path):
        return [replace(way, product=file) for way in _weights_ways(path, config)]
    ways = WAYS.get(path.suffix.lower())
    if ways is None:
        raise UsageError(
            f"{path} cannot be measured: its suffix is not one of {', '.join(WAYS)}", "Rename or export it"
        )
    return ways(existing_file(path, "the file to measure"), config)


def where(file: Path | Product) -> Path:
    """Return the path of a file, or a name that stands for it if a product is in memory."""
    return file if isinstance(file, Path) else file.artifact.path


def _onnx_ways(path: Path, config: BenchSettings) -> list[Way]:
    on_cuda = config.device.startswith("cuda")
    providers = config.provider or (("cuda",) if on_cuda else ("cpu",))
    threads = config.threads or usable_cpus()
    classes = _labels(path)
    ways = []
    for runtime in config.runtime:
        if runtime == "openvino":
            ways.append(Way(path, threads, runtime=runtime, label=runtime, logits=config.logits))
            continue
        for provider in providers:
            device = "cpu" if provider == "cpu" else (config.device if on_cuda else "cuda")
            label = runtime if provider == "cpu" else f"{runtime} {provider}"
            ways.append(
                Way(
                    path, threads, device, runtime, provider,
                    label=label, logits=config.logits, classes=classes,
                )
            )  # fmt: skip
    return ways


def _labels(path: Path) -> int | None:
    """Return the number of labels in the record of a file, or ``None``: any file may be measured."""
    try:
        return load_artifact(path).preprocess.num_classes
    except ImfDeployError:
        return None


def _weights_ways(path: Path, config: BenchSettings) -> list[Way]:
    threads = config.threads or usable_cpus()
    graphs = [word == "on" for word in config.cuda_graph] if config.device != "cpu" else [False]
    return [
        Way(path, threads, config.device, "pytorch", "", mode, graph, _label(mode, graph))
        for mode in config.pytorch
        for graph in graphs
    ]


def _engine_ways(path: Path, config: BenchSettings) -> list[Way]:
    device = config.device if config.device.startswith("cuda") else "cuda"
    threads = config.threads or usable_cpus()
    return [
        Way(path, threads, device, "tensorrt", "", cuda_graph=word == "on", label=_label("", word == "on"))
        for word in config.cuda_graph
    ]


def _label(mode: str, cuda_graph: bool) -> str:
    return ", ".join(part for part in (mode, "CUDA graph" if cuda_graph else "") if part) or "no CUDA graph"


WAYS: dict[str, Callable[[Path, BenchSettings], list[Way]]] = {
    ".onnx": _onnx_ways,
    ".safetensors": _weights_ways,
    ".engine": _engine_ways,
    ".trt": _engine_ways,
    ".plan": _engine_ways,
}
"""For each suffix, the function that returns the ways of a file for a config."""
