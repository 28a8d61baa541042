"""The ways to run a deployable file: which runtime, on which device, in which mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imf_deploy.artifact import load_artifact
from imf_deploy.compat import usable_cpus
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.files import existing_file
from imf_deploy.runners.base import DeployableRunner
from imf_deploy.runners.onnxruntime import PROVIDERS, OnnxRuntimeRunner
from imf_deploy.runners.openvino import OpenVinoRunner
from imf_deploy.runners.product import ProductRunner
from imf_deploy.runners.pytorch import PYTORCH_MODES, PyTorchMode
from imf_deploy.runners.tensorrt import TensorRTRunner

RUNTIMES = ("onnxruntime", "openvino")
CUDA_GRAPHS = ("on", "off")


@dataclass(frozen=True)
class Way:
    """One file and how to run it; plain values, so that another process can be told.

    Attributes:
        path: The file.
        threads: Threads of a CPU runner.
        device: ``cpu``, ``cuda``, ``cuda:1`` …
        runtime: Of an ONNX file: ``onnxruntime`` or ``openvino``.
        provider: Of an ONNX file in ONNX Runtime: a key of ``PROVIDERS``.
        pytorch: Mode of weights.
        cuda_graph: Whether engines, and weights on a CUDA device, run as a CUDA graph.
        label: What tells it from the other ways of the same file.
        logits: Of an ONNX file: output that is read; empty takes the one that fits ``classes``, or the
            first. The whole network runs whichever is read.
        classes: Of an ONNX file: number of labels in its record; null where it has none.
    """

    path: Path
    threads: int
    device: str = "cpu"
    runtime: str = "onnxruntime"
    provider: str = "cpu"
    pytorch: PyTorchMode = "channels-last"
    cuda_graph: bool = False
    label: str = ""
    logits: str = ""
    classes: int | None = None

    def open(self) -> DeployableRunner:
        """Return the runner; nothing is loaded yet."""
        return OPENERS[self.path.suffix.lower()].runner(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return vars(self) | {"path": str(self.path)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Way:
        """Read the form of :meth:`to_dict`."""
        return cls(**(content | {"path": Path(content["path"])}))


@dataclass(frozen=True)
class Choice:
    """What is asked for: each list that concerns a file multiplies its ways.

    Attributes:
        threads: Threads of CPU runners; by default every CPU that this process may use.
        device: Where weights run, and ONNX files unless ``providers`` says otherwise.
        runtimes: For ONNX files.
        providers: For ONNX files in ONNX Runtime; empty follows ``device``.
        pytorch: For weights.
        cuda_graph: For engines, and for weights on a CUDA device.
        logits: Output of ONNX files that is read; empty chooses.
    """

    threads: int | None = None
    device: str = "cpu"
    runtimes: Sequence[str] = ("onnxruntime",)
    providers: Sequence[str] = ()
    pytorch: Sequence[str] = ("channels-last",)
    cuda_graph: Sequence[str] = CUDA_GRAPHS
    logits: str = ""

    def check(self) -> None:
        """Refuse words that mean nothing.

        Raises:
            UsageError: one of them.
        """
        for option, given, known in (
            ("--runtime", self.runtimes, RUNTIMES),
            ("--provider", self.providers, tuple(PROVIDERS)),
            ("--pytorch", self.pytorch, PYTORCH_MODES),
            ("--cuda-graph", self.cuda_graph, CUDA_GRAPHS),
        ):
            unknown = [word for word in given if word not in known]
            if unknown or (not given and option != "--provider"):
                raise UsageError(
                    f"{option} has no '{', '.join(unknown)}'", f"Choose from: {', '.join(known)}"
                )
            if len(set(given)) < len(given):
                raise UsageError(f"{option} {','.join(given)} names one twice", "Give each once")
        kind, _, index = self.device.partition(":")
        if self.device not in ("cpu", "cuda") and not (kind == "cuda" and index.isdecimal()):
            raise UsageError(f"--device has no '{self.device}'", "Choose from: cpu, cuda, cuda:N")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads must be 1 or more, not {self.threads}")


@dataclass(frozen=True)
class Opener:
    """How files of one kind are run.

    Attributes:
        ways: The ways of a file that a choice asks for.
        runner: The runner of one way.
    """

    ways: Callable[[Path, Choice], list[Way]]
    runner: Callable[[Way], DeployableRunner]


def ways_of(path: Path, choice: Choice) -> list[Way]:
    """Return the ways to run a file.

    Raises:
        UsageError: there is no such file, or its suffix is none of ``OPENERS``.
    """
    opener = OPENERS.get(path.suffix.lower())
    if opener is None:
        raise UsageError(
            f"{path} cannot be measured: its suffix is none of {', '.join(OPENERS)}", "Rename or export it"
        )
    return opener.ways(existing_file(path, "the file to measure"), choice)


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
    """Return the number of labels in the record of a file, or nothing: any file may be measured."""
    try:
        return load_artifact(path).preprocess.num_classes
    except ImfDeployError:
        return None


def _onnx_runner(way: Way) -> DeployableRunner:
    if way.runtime == "openvino":
        return OpenVinoRunner(way.path, way.threads, any_type=True, logits=way.logits)
    device_id = int(way.device.partition(":")[2] or 0)
    return OnnxRuntimeRunner(
        way.path,
        way.threads,
        PROVIDERS[way.provider],
        device_id,
        any_type=True,
        classes=way.classes,
        logits=way.logits,
    )


def _weights_ways(path: Path, choice: Choice) -> list[Way]:
    threads = choice.threads or usable_cpus()
    graphs = [word == "on" for word in choice.cuda_graph] if choice.device != "cpu" else [False]
    return [
        Way(path, threads, choice.device, "pytorch", "", _mode(mode), graph, _label(mode, graph))
        for mode in choice.pytorch
        for graph in graphs
    ]


def _weights_runner(way: Way) -> DeployableRunner:
    return ProductRunner(way.path, way.device, way.threads, way.pytorch, cuda_graph=way.cuda_graph)


def _engine_ways(path: Path, choice: Choice) -> list[Way]:
    device = choice.device if choice.device.startswith("cuda") else "cuda"
    threads = choice.threads or usable_cpus()
    return [
        Way(path, threads, device, "tensorrt", "", cuda_graph=word == "on", label=_label("", word == "on"))
        for word in choice.cuda_graph
    ]


def _engine_runner(way: Way) -> DeployableRunner:
    return TensorRTRunner(way.path, cuda_graph=way.cuda_graph, device=way.device)


def _mode(word: str) -> PyTorchMode:
    return next(mode for mode in PYTORCH_MODES if mode == word)


def _label(mode: str, cuda_graph: bool) -> str:
    return ", ".join(part for part in (mode, "CUDA graph" if cuda_graph else "") if part) or "no CUDA graph"


_ENGINE = Opener(_engine_ways, _engine_runner)
OPENERS: dict[str, Opener] = {
    ".onnx": Opener(_onnx_ways, _onnx_runner),
    ".safetensors": Opener(_weights_ways, _weights_runner),
    ".engine": _ENGINE,
    ".trt": _ENGINE,
    ".plan": _ENGINE,
}
"""Suffix to how files of that kind are run."""
