"""Run a stripped student from its weights, in PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from imf_deploy.runners.pytorch import PyTorchMode, PyTorchRunner

if TYPE_CHECKING:
    from imf_deploy.method.products import Product


class ProductRunner(PyTorchRunner):
    """A ``.safetensors`` file that ``imf-deploy strip`` wrote, with its sidecar, or a product in memory.

    The file is read once; each entry runs a fresh copy of the weights, at other addresses.

    Args:
        source: The file, or the product.
        device: See :class:`PyTorchRunner`, also for the other arguments.
        threads: Threads of PyTorch's pool.
        mode: How the network runs.
        cuda_graph: Whether runs on a CUDA device are captured as CUDA graphs.
    """

    def __init__(
        self,
        source: Path | Product,
        device: str = "cpu",
        threads: int | None = None,
        mode: PyTorchMode = "channels-last",
        *,
        cuda_graph: bool = False,
    ) -> None:
        super().__init__(None, device, threads, (), mode, cuda_graph=cuda_graph)
        self._source = source

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
        return super().__enter__()
