"""Run a stripped student from its weights, in PyTorch."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from imf_deploy.errors import ImfDeployError
from imf_deploy.runners.base import Batch, GpuTimes, InputShape, Logits, Runner
from imf_deploy.runners.pytorch import PyTorchMode, PyTorchRunner
from imf_deploy.tasks.task import INPUT

if TYPE_CHECKING:
    from torch import nn

    from imf_deploy.method.products import Product


class ProductRunner:
    """A ``.safetensors`` file that ``imf-deploy strip`` wrote, with its sidecar, or a product in memory.

    The file is read once; each entry runs a fresh copy of the weights, at other addresses.

    Args:
        source: The file, or the product.
        device: See :class:`PyTorchRunner`, also for the other arguments.
        threads: Threads of PyTorch's pool.
        mode: How the network runs.
        cuda_graph: Whether runs on a CUDA device are captured as CUDA graphs.
    """

    name = "pytorch"
    input_name, input_type = INPUT, "float32"

    def __init__(
        self,
        source: Path | Product,
        device: str = "cpu",
        threads: int | None = None,
        mode: PyTorchMode = "channels-last",
        *,
        cuda_graph: bool = False,
    ) -> None:
        self.input_shape: InputShape = ()
        self._source = source
        self._device, self._threads, self._mode, self._cuda_graph = device, threads, mode, cuda_graph
        self._module: nn.Module | None = None
        self._inner: PyTorchRunner | None = None

    def __enter__(self) -> Self:
        """Build the network and read its weights; sets ``input_shape``.

        Raises:
            UsageError: there is no such file.
            DeviceError: the device does not exist.
            ImfDeployError: the file is not a product, or is damaged.
        """
        from imf_deploy.method.products import load_product

        if self._module is None:
            product = load_product(self._source) if isinstance(self._source, Path) else self._source
            self._module = product.module
            self.input_shape = (None, 3, product.image_size, product.image_size)
        self._inner = PyTorchRunner(
            self._module,
            self._device,
            self._threads,
            self.input_shape,
            self._mode,
            cuda_graph=self._cuda_graph,
        ).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop the network."""
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.__exit__(kind, error, trace)

    def infer(self, batch: Batch) -> Logits:
        """Return the logits, like :meth:`PyTorchRunner.infer`."""
        return self._opened().infer(batch)

    def trace(self, batch: Batch) -> GpuTimes | None:
        """Return the parts of one run on a GPU, like :meth:`PyTorchRunner.trace`."""
        return self._opened().trace(batch)

    def share(self) -> Runner:
        """Return a runner of the same network for another thread, like :meth:`PyTorchRunner.share`."""
        return self._opened().share()

    def _opened(self) -> PyTorchRunner:
        if self._inner is None:
            raise ImfDeployError("this ProductRunner is not open", "Use it in a with statement")
        return self._inner
