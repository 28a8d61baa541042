"""Open a deployable file for inference: one entry for each runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imf_deploy.compat import usable_cpus
from imf_deploy.runners.base import DeployableRunner
from imf_deploy.runners.onnxruntime import PROVIDERS, OnnxRuntimeRunner
from imf_deploy.runners.openvino import OpenVinoRunner
from imf_deploy.runners.pytorch import ProductRunner, PyTorchMode
from imf_deploy.runners.tensorrt import TensorRTRunner

if TYPE_CHECKING:
    from imf_deploy.method.products import Product


@dataclass(frozen=True)
class Way:
    """One file and how to run it, as plain values that can be sent to another process.

    Attributes:
        path: The file.
        threads: Threads of a CPU runner; by default every CPU that this process may use.
        device: ``cpu``, ``cuda``, ``cuda:1`` …
        runtime: A key of :data:`RUNTIMES`.
        provider: For an ONNX file in ONNX Runtime: a key of ``PROVIDERS``.
        pytorch: Mode for weights.
        cuda_graph: Whether engines, and weights on a CUDA device, run as a CUDA graph.
        label: Name that distinguishes it from other ways to run the same file.
        logits: For an ONNX file: the output to read; if empty, the one that fits ``classes``, or the first.
            The whole network runs in any case.
        classes: For an ONNX file: number of labels in its record; null if there is none.
        measured: Whether it is timed: threads spin while they wait, and any type of input is accepted.
        any_type: Whether any type of input is accepted, even if the file is not timed.
        exact_sums: Whether this machine computes INT8 in ONNX Runtime as processors with VNNI do.
        product: A network in memory, instead of a file; no other process can run it.
    """

    path: Path
    threads: int = field(default_factory=usable_cpus)
    device: str = "cpu"
    runtime: str = "onnxruntime"
    provider: str = "cpu"
    pytorch: PyTorchMode = "channels-last"
    cuda_graph: bool = False
    label: str = ""
    logits: str = ""
    classes: int | None = None
    measured: bool = True
    exact_sums: bool = False
    any_type: bool = False
    product: Product | None = None

    def open(self) -> DeployableRunner:
        """Return the runner; nothing is loaded yet."""
        return RUNTIMES[self.runtime](self)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without the network of a product in memory."""
        return {k: v for k, v in vars(self).items() if k != "product"} | {"path": str(self.path)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Way:
        """Read the form of :meth:`to_dict`."""
        return cls(**(content | {"path": Path(content["path"])}))


def open_file(
    path: Path, file_format: str, classes: int | None = None, exact_sums: bool = False, logits: str = ""
) -> DeployableRunner:
    """Return the runner of a file that is not timed; it loads on entry.

    Args:
        path: The file.
        file_format: ``onnx``, ``tensorrt`` or ``tensorrt_rtx``.
        classes: See :class:`Way`, also for the other arguments.
        exact_sums: Whether INT8 is computed as processors with VNNI do.
        logits: Output of an ONNX file to read.
    """
    runtime = "onnxruntime" if file_format == "onnx" else "tensorrt"
    return Way(
        path,
        runtime=runtime,
        cuda_graph=True,
        device="cpu" if file_format == "onnx" else "cuda",
        logits=logits,
        classes=classes,
        measured=False,
        exact_sums=exact_sums,
    ).open()


def _onnxruntime(way: Way) -> DeployableRunner:
    return OnnxRuntimeRunner(
        way.path,
        way.threads,
        PROVIDERS[way.provider],
        int(way.device.partition(":")[2] or 0),
        any_type=way.measured or way.any_type,
        exact_sums=way.exact_sums,
        spin=way.measured,
        classes=way.classes,
        logits=way.logits,
    )


def _openvino(way: Way) -> DeployableRunner:
    return OpenVinoRunner(way.path, way.threads, any_type=way.measured, logits=way.logits)


def _pytorch(way: Way) -> DeployableRunner:
    return ProductRunner(
        way.product or way.path, way.device, way.threads, way.pytorch, cuda_graph=way.cuda_graph
    )


def _tensorrt(way: Way) -> DeployableRunner:
    return TensorRTRunner(way.path, cuda_graph=way.cuda_graph, device=way.device)


RUNTIMES: dict[str, Callable[[Way], DeployableRunner]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "pytorch": _pytorch,
    "tensorrt": _tensorrt,
}
"""For each runtime, the function that opens a file in it."""
