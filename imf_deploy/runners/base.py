"""The protocol that verification and benchmarking use; they do not depend on any runtime."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

Batch = npt.NDArray[Any]
"""Network input, ``float32 [N, C, H, W]`` except for files from other tools."""
Logits = npt.NDArray[np.float32]
"""Network output, ``float32 [N, classes]``."""

InputShape = tuple[int | None, ...]
"""Input shape of a file, usually ``[N, C, H, W]``; ``None`` is a dimension that it leaves free."""

INPUT_TYPES = ("float32", "float16", "uint8", "int8", "int32", "int64")
"""Input types that can be benchmarked; everything else passes float32."""


class Runner(Protocol):
    """A deployable file, loaded on entry and released on exit."""

    name: str
    """Its name in reports, such as ``onnxruntime``."""

    def __enter__(self) -> Self:
        """Load the file.

        Raises:
            ImfDeployError: the file is damaged, or the runner does not support it.
            DeviceError: this machine lacks the required device.
        """

    def __exit__(self, *_: object) -> None:
        """Release the loaded file."""

    def infer(self, batch: Batch) -> Logits:
        """Return the logits of a batch of any size that the file allows."""


class DeployableRunner(Runner, Protocol):
    """A runner of a file that declares its input; known after entry."""

    input_name: str
    input_shape: InputShape
    input_type: str
    """NumPy's name, such as ``float32``; arrays of other types are not converted."""

    def share(self) -> Runner:
        """Return a runner for another thread that uses the loaded file; it must be exited before this one."""


@runtime_checkable
class SessionRunner(Protocol):
    """A runner whose runtime decides by itself what runs where."""

    session: dict[str, Any]
    """The runtime's decisions, as plain values; known after entry."""


@dataclass(frozen=True)
class GpuTimes:
    """The parts of one inference on a GPU, in milliseconds, as ``trtexec`` defines them.

    Source: NVIDIA TensorRT developer guide, "Performance Benchmarking", and trtexec's own explanations of its
    numbers.

    Attributes:
        enqueue_ms: Host time to enqueue the run. If it is longer than ``compute_ms``, the GPU waits for the
            host.
        h2d_ms: Copy of the input from pinned host memory, by CUDA events.
        compute_ms: Run of the kernels, by CUDA events.
        d2h_ms: Copy of the output to pinned host memory, by CUDA events.
    """

    enqueue_ms: float
    h2d_ms: float
    compute_ms: float
    d2h_ms: float


class Borrowed(AbstractContextManager["Borrowed"]):
    """A runner that uses what another runner has loaded.

    Args:
        name: Name of the runner.
        infer: Function that runs a batch; it is called by one thread at a time, unless it allows more.
        close: Function that releases what belongs only to this runner.
    """

    def __init__(
        self, name: str, infer: Callable[[Batch], Logits], close: Callable[[], object] = lambda: None
    ) -> None:
        self.name = name
        self._infer, self._close = infer, close

    def __exit__(self, *_: object) -> None:
        """Release what belongs only to this runner."""
        self._close()

    def infer(self, batch: Batch) -> Logits:
        """Return the logits, like the other runner."""
        return self._infer(batch)


@runtime_checkable
class TracedRunner(Protocol):
    """A runner whose inference can be timed in parts."""

    def trace(self, batch: Batch) -> GpuTimes | None:
        """Run once more and return the parts; ``None`` if it does not run on a GPU."""
