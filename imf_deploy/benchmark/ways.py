"""The ways in which a deployable file is measured: runtimes, devices, modes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imf_deploy.artifact import load_artifact
from imf_deploy.compat import usable_cpus
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import existing_file
from imf_deploy.runners.onnxruntime import PROVIDERS
from imf_deploy.runners.opening import Way
from imf_deploy.runners.pytorch import PYTORCH_MODES, PyTorchMode

if TYPE_CHECKING:
    from imf_deploy.method.products import Product

RUNTIMES = ("onnxruntime", "openvino")
CUDA_GRAPHS = ("on", "off")


@dataclass(frozen=True)
class Choice:
    """The requested ways: each list that concerns a file multiplies its ways.

    Attributes:
        threads: Threads of CPU runners; by default every CPU that this process may use.
        device: Device of weights, and of ONNX files unless ``providers`` is given.
        runtimes: Runtimes for ONNX files.
        providers: Providers for ONNX files in ONNX Runtime; if empty, those of ``device``.
        pytorch: Modes for weights.
        cuda_graph: Whether CUDA graphs are used, for engines, and for weights on a CUDA device.
        logits: Output of ONNX files to read; if empty, it is chosen.
    """

    threads: int | None = None
    device: str = "cpu"
    runtimes: Sequence[str] = ("onnxruntime",)
    providers: Sequence[str] = ()
    pytorch: Sequence[str] = ("channels-last",)
    cuda_graph: Sequence[str] = CUDA_GRAPHS
    logits: str = ""

    def check(self) -> None:
        """Refuse unknown values.

        Raises:
            UsageError: naming the option.
        """
        for option, given, known in (
            ("`runtime`", self.runtimes, RUNTIMES),
            ("`provider`", self.providers, tuple(PROVIDERS)),
            ("`pytorch`", self.pytorch, PYTORCH_MODES),
            ("`cuda_graph`", self.cuda_graph, CUDA_GRAPHS),
        ):
            unknown = [word for word in given if word not in known]
            if unknown or (not given and option != "`provider`"):
                raise UsageError(
                    f"{option} has no '{', '.join(unknown)}'", f"Choose from: {', '.join(known)}"
                )
            if len(set(given)) < len(given):
                raise UsageError(f"{option} {','.join(given)} names one twice", "Name each once")
        kind, _, index = self.device.partition(":")
        if self.device not in ("cpu", "cuda") and not (kind == "cuda" and index.isdecimal()):
            raise UsageError(f"`device` has no '{self.device}'", "Choose from: cpu, cuda, cuda:N")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"`threads` must be 1 or more, not {self.threads}")


def ways_of(file: Path | Product, choice: Choice) -> list[Way]:
    """Return the ways to run a file, or a product in memory.

    Raises:
        UsageError: there is no such file, or its suffix is not one of ``WAYS``.
    """
    path = where(file)
    if not isinstance(file, Path):
        return [replace(way, product=file) for way in _weights_ways(path, choice)]
    ways = WAYS.get(path.suffix.lower())
    if ways is None:
        raise UsageError(
            f"{path} cannot be measured: its suffix is not one of {', '.join(WAYS)}", "Rename or export it"
        )
    return ways(existing_file(path, "the file to measure"), choice)


def where(file: Path | Product) -> Path:
    """Return the path of a file, or a name that stands for it if a product is in memory."""
    return file if isinstance(file, Path) else file.artifact.path


def _onnx_ways(path: Path, choice: Choice) -> list[Way]:
    on_cuda = choice.device.startswith("cuda")
    providers = choice.providers or (("cuda",) if on_cuda else ("cpu",))
    threads = choice.threads or usable_cpus()
    classes = _labels(path)
    ways = []
    for runtime in choice.runtimes:
        if runtime == "openvino":
            ways.append(Way(path, threads, runtime=runtime, label=runtime, logits=choice.logits))
            continue
        for provider in providers:
            device = "cpu" if provider == "cpu" else (choice.device if on_cuda else "cuda")
            label = runtime if provider == "cpu" else f"{runtime} {provider}"
            ways.append(
                Way(
                    path, threads, device, runtime, provider,
                    label=label, logits=choice.logits, classes=classes,
                )
            )  # fmt: skip
    return ways


def _labels(path: Path) -> int | None:
    """Return the number of labels in the record of a file, or ``None``: any file may be measured."""
    try:
        return load_artifact(path).preprocess.num_classes
    except ImfDeployError:
        return None


def _weights_ways(path: Path, choice: Choice) -> list[Way]:
    threads = choice.threads or usable_cpus()
    graphs = [word == "on" for word in choice.cuda_graph] if choice.device != "cpu" else [False]
    return [
        Way(path, threads, choice.device, "pytorch", "", _mode(mode), graph, _label(mode, graph))
        for mode in choice.pytorch
        for graph in graphs
    ]


def _engine_ways(path: Path, choice: Choice) -> list[Way]:
    device = choice.device if choice.device.startswith("cuda") else "cuda"
    threads = choice.threads or usable_cpus()
    return [
        Way(path, threads, device, "tensorrt", "", cuda_graph=word == "on", label=_label("", word == "on"))
        for word in choice.cuda_graph
    ]


def _mode(word: str) -> PyTorchMode:
    return next(mode for mode in PYTORCH_MODES if mode == word)


def _label(mode: str, cuda_graph: bool) -> str:
    return ", ".join(part for part in (mode, "CUDA graph" if cuda_graph else "") if part) or "no CUDA graph"


WAYS: dict[str, Callable[[Path, Choice], list[Way]]] = {
    ".onnx": _onnx_ways,
    ".safetensors": _weights_ways,
    ".engine": _engine_ways,
    ".trt": _engine_ways,
    ".plan": _engine_ways,
}
"""For each suffix, the function that returns the ways of a file for a choice."""
