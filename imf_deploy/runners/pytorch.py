"""Run a PyTorch module: the reference that every exported file is held against."""

from __future__ import annotations

import copy
from types import TracebackType
from typing import TYPE_CHECKING, Self

from imf_deploy.compat import usable_cpus
from imf_deploy.errors import DeviceError, ImfDeployError
from imf_deploy.runners.base import Batch, InputShape, Logits

if TYPE_CHECKING:
    from torch import nn


class PyTorchRunner:
    """A module in eager mode, channels last; it works on a copy, the module stays as it is.

    Args:
        module: Takes ``float32 [N, C, H, W]``, returns ``[N, classes]``.
        device: ``cpu``, ``cuda``, ``cuda:1`` … Copies to and from it are part of ``infer``.
        threads: Threads of PyTorch's pool; by default every CPU that this process may use. The
            count is global to the process: it is set for this runner's calls, and what was set
            before comes back on exit.
        input_shape: What the module takes, ``[N, C, H, W]``; ``None`` is a free dimension.
    """

    name = "pytorch"

    def __init__(
        self,
        module: nn.Module,
        device: str = "cpu",
        threads: int | None = None,
        input_shape: InputShape = (None, 3, None, None),
    ) -> None:
        self.input_shape = input_shape
        self._module = module
        self._device = device
        self._threads = threads or usable_cpus()
        self._before = 0
        self._model: nn.Module | None = None

    def __enter__(self) -> Self:
        """Copy the module to its device.

        Raises:
            DeviceError: the device is not there.
        """
        import torch

        if self._device.startswith("cuda") and not torch.cuda.is_available():
            raise DeviceError(f"PyTorch finds no CUDA device for {self._device}", "Use the device cpu")
        self._model = copy.deepcopy(self._module).eval()
        self._model.to(device=torch.device(self._device), memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._before = torch.get_num_threads()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop the copy and give the process its thread count back."""
        import torch

        torch.set_num_threads(self._before)
        self._model = None

    def infer(self, batch: Batch) -> Logits:
        """Return the logits, ``float32 [N, classes]``; ends when they are in host memory.

        Raises:
            ImfDeployError: the runner was not entered.
        """
        import torch

        if self._model is None:
            raise ImfDeployError("this PyTorchRunner is not open", "Use it in a with statement")
        # Two runners may be open at once with different counts; asking costs far less than setting.
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            images = torch.from_numpy(batch).to(self._device).contiguous(memory_format=torch.channels_last)
            logits: Logits = self._model(images).float().cpu().numpy()
        return logits
