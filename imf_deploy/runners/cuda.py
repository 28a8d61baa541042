"""One inference on a CUDA device for any runtime: copy in, run, copy out, on a separate stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from imf_deploy.runners.base import Batch, GpuTimes, Logits

if TYPE_CHECKING:
    import torch


class CudaPipe:
    """Pinned host buffers, device buffers, and the function that computes one from the other.

    The stream is never the default one, which synchronises with all other streams.
    """

    def __init__(self) -> None:
        import torch

        # PyTorch does not annotate Stream.
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._execute: Callable[[], None] = lambda: None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._device: tuple[torch.Tensor, torch.Tensor] | None = None
        self._host: tuple[torch.Tensor, torch.Tensor] | None = None

    def bind(
        self,
        source: torch.Tensor,
        result: torch.Tensor,
        execute: Callable[[], None],
        *,
        cuda_graph: bool,
    ) -> None:
        """Set buffers on the device and the function that computes the second from the first; run it once.

        Addresses are part of a captured graph, so new buffers always need a new capture.

        Args:
            source: Input on the device.
            result: Output on the device.
            execute: Enqueues one run on ``stream``, which is the current stream during the call.
            cuda_graph: Whether to capture the run as a CUDA graph, and replay it from then on.
        """
        import torch

        self._graph, self._execute, self._device = None, execute, (source, result)
        self._host = (
            torch.empty(tuple(source.shape), dtype=source.dtype, pin_memory=True),
            torch.empty(tuple(result.shape), dtype=result.dtype, pin_memory=True),
        )
        # The buffers come from PyTorch's current stream, which must finish its work on them first.
        torch.cuda.synchronize()
        with torch.cuda.stream(self.stream):
            execute()  # triggers lazy loading and compiling, which is not allowed during a capture
        self.stream.synchronize()
        if cuda_graph:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                execute()
            self._graph = graph

    def infer(self, batch: Batch) -> Logits:
        """Return the output as ``float32``; returns when it is in host memory."""
        import torch

        (source, result), (host_source, host_result) = self._buffers()
        with torch.cuda.stream(self.stream):
            host_source.copy_(torch.from_numpy(batch))
            source.copy_(host_source, non_blocking=True)
            self._run()
            host_result.copy_(result, non_blocking=True)
        self.stream.synchronize()
        # A copy is needed because the next run writes into the same pinned buffer.
        logits: Logits = host_result.float().clone().numpy()
        return logits

    def trace(self, batch: Batch) -> GpuTimes:
        """Run once like :meth:`infer`, with CUDA events between the parts."""
        import torch

        (source, result), (host_source, host_result) = self._buffers()
        event: Callable[..., torch.cuda.Event] = torch.cuda.Event
        start, copied, computed, end = (event(enable_timing=True) for _ in range(4))
        with torch.cuda.stream(self.stream):
            host_source.copy_(torch.from_numpy(batch))
            start.record()
            source.copy_(host_source, non_blocking=True)
            copied.record()
            before = time.perf_counter_ns()
            self._run()
            enqueued = time.perf_counter_ns() - before
            computed.record()
            host_result.copy_(result, non_blocking=True)
            end.record()
        self.stream.synchronize()
        return GpuTimes(
            enqueue_ms=enqueued / 1e6,
            h2d_ms=start.elapsed_time(copied),
            compute_ms=copied.elapsed_time(computed),
            d2h_ms=computed.elapsed_time(end),
        )

    def close(self) -> None:
        """Wait for unfinished work, then release the graph and the buffers."""
        self.stream.synchronize()
        self._graph = self._device = self._host = None
        self._execute = lambda: None

    def _run(self) -> None:
        if self._graph is not None:
            self._graph.replay()
        else:
            self._execute()

    def _buffers(self) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        if self._device is None or self._host is None:
            raise RuntimeError("a CudaPipe was used before bind")
        return self._device, self._host


def use_device(device: str) -> None:
    """Make ``cuda:N`` the current device of this process; plain ``cuda`` keeps the current one.

    Raises:
        DeviceError: there is no such device.
    """
    import torch

    from imf_deploy.errors import DeviceError

    if not torch.cuda.is_available():
        raise DeviceError(f"PyTorch finds no CUDA device for {device}", "Use the device cpu")
    if ":" in device:
        index, count = int(device.split(":")[1]), torch.cuda.device_count()
        if index >= count:
            raise DeviceError(f"there is no {device}: PyTorch finds {count} CUDA devices", "Use cuda:0")
        torch.cuda.set_device(index)
