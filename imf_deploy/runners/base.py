"""The protocol that verification and benchmarking know; they know no runtime."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

Batch = npt.NDArray[np.float32]
"""Network input, ``float32 [N, 3, S, S]``."""
Logits = npt.NDArray[np.float32]
"""Network output, ``float32 [N, classes]``."""

InputShape = tuple[int | None, ...]
"""What a file takes, ``[N, C, H, W]``; ``None`` is a dimension that it leaves free."""

INPUT = "images"
OUTPUT = "logits"


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
    """A runner of a file that says itself what it takes."""

    input_shape: InputShape
    """Known once entered."""
