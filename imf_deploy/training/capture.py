"""A training step as a CUDA graph: the host launches one graph instead of a thousand small kernels."""

import gc
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from imf_deploy.errors import ImfDeployError
from imf_deploy.processes import world_size
from imf_deploy.progress import say
from imf_deploy.settings import TrainingSettings
from imf_deploy.untrusted import shorten

Whole = Callable[[Tensor, Tensor], Tensor]
"""A step from images ``[N, C, H, W]`` and labels to new weights; returns the terms of the loss ``[K]``."""
EAGER_STEPS = 3
"""Number of eager steps before the capture, as PyTorch requires; they are steps of the training."""


def why_eager(config: TrainingSettings) -> str:
    """Return why steps with these settings cannot be captured; empty if there is no known reason."""
    if world_size() > 1:
        return "several processes train together"
    return "fp16 scales the loss by earlier steps" if config.train_precision == "fp16" else ""


class CapturedStep:
    """Runs a step eagerly a few times, then captures it, then replays it.

    The eager steps and the replays are the steps of the training; the capture itself executes nothing. A step
    that cannot be captured continues eagerly, and a message gives the reason. Everything that varies from
    step to step must be in tensors that the step reads: images and labels are copied here, and the caller is
    responsible for the rest.

    Args:
        whole: The step. All batches have one shape.
        device: A CUDA device.
    """

    def __init__(self, whole: Whole, device: torch.device) -> None:
        self._whole = whole
        self._device = device
        # A capture needs its own stream, and autograd binds its state to a stream. (PyTorch does not annotate
        # the class.)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._eager = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self.failure = ""
        """Why the step is not captured; empty if it is, or will be."""

    @property
    def captured(self) -> bool:
        """Whether steps are replayed."""
        return self._graph is not None

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Run a step.

        Returns:
            The terms of the loss ``[K]``; the next step overwrites them.
        """
        if self._graph is None and not self.failure:
            if self._eager < EAGER_STEPS:
                self._eager += 1
                return self._run(images, labels, watched=self._eager == EAGER_STEPS)
            self._capture(images, labels)
        if self._graph is None:
            return self._whole(images, labels)
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        return self._values

    def _run(self, images: Tensor, labels: Tensor, watched: bool) -> Tensor:
        """Run a step eagerly, on the stream that is captured later."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        watching: AbstractContextManager[list[str]] = _watching() if watched else nullcontext([])
        with torch.cuda.stream(self._stream), watching as found:
            values = self._whole(images, labels)
        if found:
            self._give_up(found[0])
        current.wait_stream(self._stream)
        return values

    def _capture(self, images: Tensor, labels: Tensor) -> None:
        self._images, self._labels = images.clone(), labels.clone()
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        torch.cuda.synchronize(self._device)
        try:
            # Other threads, such as the one that pins batches, may call CUDA during the capture.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._values = self._whole(self._images, self._labels)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ImfDeployError) as error:
            # PyTorch has no exception class for steps that cannot be captured.
            _leave_capture(current)
            # The end of the capture also fails, and hides the first error.
            cause = error.__context__ or error
            self._give_up(shorten(next(iter(str(cause).splitlines()), type(cause).__name__)))
        else:
            self._graph = graph

    def _give_up(self, why: str) -> None:
        self.failure = why
        say(f"Training steps run without a CUDA graph: {why}")

    def release(self) -> None:
        """Free the graph and its memory."""
        if self._graph is not None:
            torch.cuda.synchronize(self._device)
            self._graph.reset()
        self._graph = None
        gc.collect()


@contextmanager
def _watching() -> Iterator[list[str]]:
    """Yield a list that receives, at the end, the operations in the block that a graph could not repeat.

    A replay neither waits for the device nor runs Python: values that the host reads back or draws would stay
    as they were in the capture.
    """
    found: list[str] = []
    drawn = _host_generators()
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    for warning in seen:
        if "synchronizing CUDA operation" in str(warning.message):
            place = f"{Path(warning.filename).name}, line {warning.lineno}"
            found.append(f"the host waits for the GPU within it ({place})")
    found += [f"it draws random numbers on the host ({n})" for n in _changed(drawn, _host_generators())]


def _host_generators() -> dict[str, object]:
    """Return the states of the generators that a network could draw from on the host, by name."""
    name, keys, *rest = np.random.get_state()
    return {
        "PyTorch": torch.get_rng_state().numpy().tobytes(),
        "Python": random.getstate(),
        "NumPy": (name, np.asarray(keys).tobytes(), *rest),
    }


def _changed(before: dict[str, object], after: dict[str, object]) -> list[str]:
    return [name for name, state in before.items() if state != after[name]]


def _leave_capture(stream: torch.cuda.Stream) -> None:
    """Make a device usable after a failed capture.

    PyTorch stays on the stream of the capture, and leaves the device's generator as if the capture were still
    active; a copy of the generator's state is not affected.

    Args:
        stream: The previous current stream.
    """
    torch.cuda.set_stream(stream)
    torch.cuda.synchronize(stream.device)
    generator = torch.cuda.default_generators[stream.device.index]
    generator.graphsafe_set_state(generator.clone_state())
