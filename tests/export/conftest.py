"""One small network with the shape of an imf@k product, its ONNX files and an engine of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from imf_deploy.export.flavour import import_tensorrt
from imf_deploy.export.onnx_writer import export_onnx
from imf_deploy.export.tensorrt_writer import build_engine
from imf_deploy.settings import BatchRange

SIZE = 16
CLASSES = 7


def _conv(inputs: int, outputs: int, stride: int, groups: int = 1, bias: bool = False) -> nn.Sequential:
    kernel = 3 if groups > 1 or stride > 1 else 1
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class Tiny(nn.Module):
    """Two branches that share their input, pooled, concatenated, and one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 8, 2)
        self.first = nn.Sequential(_conv(8, 8, 2, groups=8), _conv(8, 12, 1, bias=True))
        self.second = nn.Sequential(_conv(8, 8, 2, groups=8, bias=True), _conv(8, 12, 1, bias=True))
        self.head = nn.Linear(24, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        shared = self.stem(images)
        pooled = [branch(shared).mean((2, 3)) for branch in (self.first, self.second)]
        return self.head(torch.cat(pooled, 1))


def make_tiny() -> Tiny:
    """Return the network with batch norm statistics that are not the identity, in eval mode."""
    torch.manual_seed(0)
    tiny = Tiny().train()
    with torch.no_grad():
        for module in tiny.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
        for _ in range(3):
            tiny(torch.randn(16, 3, SIZE, SIZE) * 2 + 1)
    return tiny.eval()


@pytest.fixture
def tiny() -> Tiny:
    return make_tiny()


@pytest.fixture(scope="session")
def onnx_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("onnx")
    files = {name: folder / f"{name}.onnx" for name in ("fp32", "fp16")}
    export_onnx(make_tiny(), files["fp32"], "fp32", SIZE, {"product": "imf@2", "labels": '["Bär"]'})
    export_onnx(make_tiny(), files["fp16"], "fp16", SIZE, {"product": "imf@2"})
    return files


@pytest.fixture(scope="session")
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 alone")
    import_tensorrt("rtx")


@pytest.fixture(scope="session")
def engine(rtx: None, onnx_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "tiny.engine"
    build_engine(onnx_files["fp32"], path, "rtx", BatchRange(1, 2, 4), ("86", "89"))
    return path
