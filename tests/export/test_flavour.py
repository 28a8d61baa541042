from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from imf_deploy.errors import DeviceError, UsageError
from imf_deploy.export.choice import every_form
from imf_deploy.export.flavour import choose_flavour, import_tensorrt
from imf_deploy.export.stage import choose_engines
from imf_deploy.settings import EngineSettings

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


def test_off() -> None:
    choice = choose_flavour("off")
    assert choice.flavour is None
    assert choice.reason == "switched off"


@no_gpu
def test_auto_takes_rtx_without_a_gpu(rtx: None) -> None:
    assert choose_flavour("auto").flavour == "rtx"
    assert choose_flavour("rtx").flavour == "rtx"
    assert import_tensorrt("rtx").__name__ == "tensorrt_rtx"


@no_gpu
def test_full_tensorrt_needs_a_gpu() -> None:
    with pytest.raises(DeviceError, match="CUDA device"):
        choose_flavour("tensorrt")


def test_missing_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(UsageError, match="pip install tensorrt-rtx"):
        choose_flavour("rtx")


@no_gpu
def test_auto_without_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    choice = choose_flavour("auto")
    assert choice.flavour is None
    assert "CUDA device" in choice.reason
    assert "tensorrt_rtx" in choice.reason


def test_importing_the_writers_is_light() -> None:
    modules = "engine_header flavour half onnx_file onnx_writer tensorrt_writer"
    script = f"""
import importlib, sys
for name in {modules.split()!r}:
    importlib.import_module("imf_deploy.export." + name)
print(*({{"torch", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("capability", "targets", "remark"),
    [
        ((8, 9), [], ""),
        ((9, 0), [], "(SM90) cannot run these TensorRT-RTX engines; for others, use: "
                     "pip install 'imf-deploy[tensorrt]'"),
        ((9, 0), ["86"], ""),
        ((7, 5), [], "(SM75) cannot run these TensorRT-RTX engines; for others, use: "
                     "`compute_capability` 75 `precisions` fp16"),
    ],
)  # fmt: skip
def test_engines_that_this_gpu_does_not_run_are_told_of(
    rtx: None,
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    targets: list[str],
    remark: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    engines, told = choose_engines(EngineSettings(compute_capability=tuple(targets)), every_form(["fp32"]))
    assert engines is not None
    assert engines.flavour == "rtx"
    assert told.removeprefix("This GPU ") == remark
