"""The protocol that verification and benchmarking know; they know no runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

Batch = npt.NDArray[Any]
"""Network input, ``float32 [N, 3, S, S]`` but for other people's files."""
Logits = npt.NDArray[np.float32]
"""Network output, ``float32 [N, classes]``."""

InputShape = tuple[int | None, ...]
"""What a file takes, mostly ``[N, C, H, W]``; ``None`` is a dimension that it leaves free."""

INPUT_TYPES = ("float32", "float16", "uint8", "int8", "int32", "int64")
"""What can be measured; whatever else runs a file gives it float32."""


class Runner(Protocol):
    """A deployable file, loaded when entered and released when left."""

    name: str
    """What reports call it, such as ``onnxruntime``."""

    def __enter__(self) -> Self:
        """Load the file.

        Raises:
            ImfDeployError: it is damaged, or the runner does not take it.
            DeviceError: this machine lacks the device that it needs.
        """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release what was loaded."""

    def infer(self, batch: Batch) -> Logits:
        """Return the logits of a batch of any size that the file allows."""


class DeployableRunner(Runner, Protocol):
    """A runner of a file that says itself what it takes; known once entered."""

    input_name: str
    input_shape: InputShape
    input_type: str
    """NumPy's name, such as ``float32``; an array of another type is not converted."""

    def share(self) -> Runner:
        """Return a runner for another thread; it uses what this one has loaded, and must be left first."""


@runtime_checkable
class SessionRunner(Protocol):
    """A runner whose runtime decides for itself what runs where."""

    session: dict[str, Any]
    """What it decided, as plain values; known once entered."""


@dataclass(frozen=True)
class GpuTimes:
    """The parts of one inference on a GPU, in milliseconds, as ``trtexec`` defines them.

    Source: NVIDIA TensorRT developer guide, "Performance Benchmarking", and trtexec's own
    explanations of its numbers.

    Attributes:
        enqueue_ms: Host time to enqueue the run. Where it is longer than ``compute_ms``, the GPU
            waits for the host.
        h2d_ms: Copy of the input from pinned host memory, by CUDA events.
        compute_ms: Run of the kernels, by CUDA events.
        d2h_ms: Copy of the output to pinned host memory, by CUDA events.
    """

    enqueue_ms: float
    h2d_ms: float
    compute_ms: float
    d2h_ms: float


class Borrowed:
    """A runner that uses what another one has loaded.

    Args:
        name: Of the runner.
        infer: What runs a batch; no other thread calls it at the same time, unless it allows that.
        close: Releases what belongs to this runner alone.
    """

    def __init__(
        self, name: str, infer: Callable[[Batch], Logits], close: Callable[[], object] = lambda: None
    ) -> None:
        self.name = name
        self._infer, self._close = infer, close

    def __enter__(self) -> Self:
        """Load nothing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release what is this runner's own."""
        self._close()

    def infer(self, batch: Batch) -> Logits:
        """Return the logits, as the other runner does."""
        return self._infer(batch)


@runtime_checkable
class TracedRunner(Protocol):
    """A runner whose inference can be taken apart."""

    def trace(self, batch: Batch) -> GpuTimes | None:
        """Run once more and return the parts; ``None`` where it does not run on a GPU."""
