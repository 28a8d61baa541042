"""Throughput of an epoch, and the utilisation of its GPU."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

PERIOD = 0.2
"""Seconds between two readings of the GPU; NVML averages over up to a second."""


class Speed:
    """Counts the images of an epoch's steps, and their time."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._images = 0
        self._busy: list[float] = []

    @contextmanager
    def watch(self, device: torch.device) -> Iterator[None]:
        """Measure the block, which ends when the device has finished all of it.

        Args:
            device: Device of the training. The utilisation of a CUDA device is read from NVML, if available.
        """
        done = threading.Event()
        watcher = threading.Thread(target=self._look, args=(device, done), daemon=True)
        if device.type == "cuda":
            watcher.start()
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds += time.perf_counter() - started
            done.set()
            if device.type == "cuda":
                watcher.join()

    def count(self, images: int) -> None:
        """Add the images of a step."""
        self._images += images

    def _look(self, device: torch.device, done: threading.Event) -> None:
        while not done.wait(PERIOD):
            try:
                self._busy.append(torch.cuda.utilization(device))
            except Exception:
                # Without pynvml or its library, on MIG slices, or in containers that hide it, nothing is
                # reported.
                return

    def describe(self) -> str:
        """Return a text such as ``9,000 images/s, GPU 93 % busy``."""
        rate = f"{self._images / max(self._seconds, 1e-9):,.0f} images/s"
        return f"{rate}, GPU {sum(self._busy) / len(self._busy):.0f} % busy" if self._busy else rate
