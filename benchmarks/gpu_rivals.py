"""The modes of PyTorch and the providers of ONNX Runtime that engines are compared with on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from gpu_networks import Network
from torch import Tensor, nn

from imf_deploy.runners.base import Runner
from imf_deploy.runners.onnxruntime import PROVIDERS, OnnxRuntimeRunner
from imf_deploy.runners.pytorch import PyTorchMode, PyTorchRunner
from imf_deploy.runners.tensorrt import TensorRTRunner


class Half(nn.Module):
    """A module in fp16 that takes and returns float32."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.half()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, ``float32 [N, classes]``."""
        logits: Tensor = self.module(images.half()).float()
        return logits


Open = Callable[[Network], Runner]


def _pytorch(mode: PyTorchMode, *, cuda_graph: bool, half: bool = False) -> Open:
    def open_it(network: Network) -> Runner:
        import copy

        module = Half(copy.deepcopy(network.module)).eval() if half else network.module
        return PyTorchRunner(module, "cuda", mode=mode, cuda_graph=cuda_graph)

    return open_it


def _onnxruntime(kind: str, provider: str) -> Open:
    return lambda network: OnnxRuntimeRunner(network.files[kind], providers=PROVIDERS[provider])


RIVALS: dict[str, Open] = {
    "PyTorch channels-last, CUDA graph": _pytorch("channels-last", cuda_graph=True),
    "PyTorch eager, CUDA graph": _pytorch("eager", cuda_graph=True),
    "PyTorch channels-last": _pytorch("channels-last", cuda_graph=False),
    "PyTorch eager": _pytorch("eager", cuda_graph=False),
    "PyTorch fp16 channels-last, CUDA graph": _pytorch("channels-last", cuda_graph=True, half=True),
    "ONNX Runtime CUDA": _onnxruntime("fp32", "cuda"),
    "ONNX Runtime CUDA fp16": _onnxruntime("fp16", "cuda"),
    "ONNX Runtime TensorRT fp16": _onnxruntime("fp16", "tensorrt"),
    "PyTorch max-autotune, CUDA graph": _pytorch("max-autotune", cuda_graph=True),
}
"""For each name, the function that opens it, in order of priority; slow compilations come last."""

SLOW = ("PyTorch max-autotune, CUDA graph",)
"""Measured after everything else, next to an engine."""


def is_pytorch_fp32(name: str) -> bool:
    """Return whether a row is a mode of PyTorch in the precision of the training."""
    return name.startswith("PyTorch") and "fp16" not in name


def engine_runner(path: Path) -> Runner:
    """Return the runner of an engine, in a CUDA graph."""
    return TensorRTRunner(path, cuda_graph=True)


def why_not(runner: Runner, shape: tuple[int, ...]) -> str:
    """Return why a runner cannot run a batch here, in one line; empty if it can."""
    import numpy as np

    try:
        with runner:
            runner.infer(np.zeros(shape, np.float32))
    except Exception as error:  # after any error, the other rows are measured
        torch.cuda.synchronize()
        return " ".join(str(error).split())[:300] or type(error).__name__
    return ""
