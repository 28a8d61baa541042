"""What an engine of the full TensorRT needs, and how it is told where this machine is another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imf_deploy.errors import DeviceError, ImfDeployError
from imf_deploy.export.engine_header import EngineHeader, read_engine_header
from imf_deploy.files import sha256_file
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import EngineFile
from imf_deploy.records.making import Built, Gpu
from imf_deploy.runners import engine_facts
from imf_deploy.runners.engine_facts import (
    engine_host_code,
    missing_gpu,
    rebuild_command,
    refusal,
    require_gpu,
    what_runs,
    why_not_here,
)
from imf_deploy.runners.tensorrt import TensorRTRunner

HEADER = EngineHeader("tensorrt", "10.6.0.26", 0, 100, (), portable=False)
H200 = Gpu("NVIDIA H200", "90", "13.0")


def record_of(path: Path, gpu: Gpu | None = H200, **options: object) -> EngineFile:
    """Write the record of an engine that was built with options."""
    return EngineFile(
        path=path,
        sha256=sha256_file(path),
        format="tensorrt",
        parent="",
        recipe="",
        model={"name": "torchvision:mobilenet_v2"},
        preprocess=Preprocess(16, "none", 16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), ("a", "b")),
        product="imf@2",
        precision="fp16",
        targets=[],
        batch="1:1:1",
        build=Built(1.0, options, gpu),
    ).save()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The first bytes of an engine."""
    path = tmp_path / "deploy" / "a.engine"
    path.parent.mkdir()
    path.write_bytes(b"ftrt" + bytes(20) + bytes((10, 6, 0, 26)) + bytes(100))
    assert read_engine_header(path).version == "10.6.0.26"
    return path


def here(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    """Let this machine have a GPU."""
    monkeypatch.setattr(engine_facts, "gpu_here", lambda: gpu.capability)
    monkeypatch.setattr(engine_facts, "this_gpu", lambda: gpu)
    monkeypatch.setattr(engine_facts, "cuda_driver", lambda: gpu.cuda_driver)


@pytest.mark.parametrize(
    ("capability", "options", "why"),
    [
        ("90", {}, ""),
        ("89", {}, "it was built on NVIDIA H200 (SM90), and the GPU here is NVIDIA X (SM89)"),
        ("100", {}, "it was built on NVIDIA H200 (SM90), and the GPU here is NVIDIA X (SM100)"),
        ("89", {"hardware_compatible": True}, ""),
        ("120", {"hardware_compatible": True}, ""),
        ("75", {"hardware_compatible": True}, "it runs on Ampere and newer, and the GPU here is SM75"),
    ],
)
def test_the_gpu_that_an_engine_was_built_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, capability: str, options: dict[str, object], why: str
) -> None:
    here(monkeypatch, Gpu("NVIDIA X", capability, "13.0"))
    assert missing_gpu(HEADER, record_of(path, **options)) == why
    assert why_not_here(path) == why
    if not why:
        require_gpu(path, HEADER)
        return
    with pytest.raises(DeviceError) as caught:
        require_gpu(path, HEADER)
    assert why in caught.value.what
    assert "imf-deploy export mobilenet_v2-imf@2.safetensors" in caught.value.hint
    assert "--precisions fp16 --trt tensorrt --overwrite" in caught.value.hint


def test_without_a_record_the_library_has_to_say(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch, Gpu("NVIDIA X", "89", "13.0"))
    assert missing_gpu(HEADER) == why_not_here(path) == ""
    assert missing_gpu(HEADER, record_of(path, None)) == ""


def test_the_hint_names_the_product_where_it_lies(path: Path) -> None:
    record = record_of(path)
    product = path.parent.parent / "products" / "mobilenet_v2-imf@2.safetensors"
    product.parent.mkdir()
    product.write_bytes(b"")
    assert f"imf-deploy export {product} --precisions fp16" in rebuild_command(path, record)
    assert rebuild_command(path, None) == "Rebuild it here from its ONNX file"


@pytest.mark.parametrize(
    ("capability", "options"),
    [
        ("", "--trt rtx"),
        ("89", "--trt rtx"),
        ("90", "--trt tensorrt"),
        ("75", "--trt rtx --compute-capability 75"),
    ],
)
def test_an_engine_is_rebuilt_by_what_runs_here(
    path: Path, monkeypatch: pytest.MonkeyPatch, capability: str, options: str
) -> None:
    monkeypatch.setattr(engine_facts, "gpu_here", lambda: capability)
    record = record_of(path).revised(format="tensorrt_rtx")
    assert rebuild_command(path, record).endswith(f"--precisions fp16 {options} --overwrite")


def test_a_driver_that_is_too_old_for_pytorch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_facts, "gpu_here", lambda: "")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for driver, why in (
        ("12.4", "the NVIDIA driver here supports CUDA 12.4, but PyTorch is built for CUDA 13.0"),
        ("13.1", "no CUDA device was found"),
        ("", "no CUDA device was found"),
    ):
        monkeypatch.setattr(engine_facts, "cuda_driver", lambda driver=driver: driver)
        assert missing_gpu(HEADER) == why


@pytest.mark.parametrize(
    ("installed", "options", "versions"),
    [
        ("10.6.0", {}, False),
        ("10.6.0.post1", {}, False),
        ("10.8.0", {}, True),
        ("10.8.0", {"version_compatible": True}, False),
        ("10.5.0", {"version_compatible": True}, True),
        ("11.0.0", {"version_compatible": True}, True),
    ],
)
def test_a_refusal_names_both_versions(
    path: Path, installed: str, options: dict[str, object], versions: bool
) -> None:
    record_of(path, **options)
    error = refusal(path, HEADER, installed, "it gave no reason")
    both = f"was built by TensorRT 10.6.0.26, but TensorRT {installed} is installed here"
    assert (both in error.what) == versions
    assert ("it gave no reason" in error.what) != versions
    assert "imf-deploy export" in error.hint


def test_a_refusal_names_both_drivers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch, replace(H200, cuda_driver="12.2"))
    record_of(path)
    error = refusal(path, HEADER, "10.6.0", "CUDA driver version is insufficient for CUDA runtime version")
    assert "built with a driver for CUDA 13.0, but the driver here supports CUDA 12.2" in error.what
    assert error.hint.startswith("Update the NVIDIA driver. Rebuild it here: imf-deploy export")


def test_host_code_runs_where_the_record_of_this_very_file_says_so(path: Path) -> None:
    assert not engine_host_code(path, HEADER)
    record_of(path)
    assert not engine_host_code(path, HEADER)
    record_of(path, version_compatible=True)
    assert engine_host_code(path, HEADER)
    path.write_bytes(path.read_bytes() + b"other")
    with pytest.raises(ImfDeployError, match="changed after its sidecar"):
        engine_host_code(path, HEADER)


def test_what_an_engine_needs(path: Path) -> None:
    assert "the model of NVIDIA GPU that it was built on" in what_runs(HEADER)
    assert "an NVIDIA H200, its driver" in what_runs(HEADER, record_of(path))
    told = what_runs(HEADER, record_of(path, hardware_compatible=True, version_compatible=True))
    assert "Ampere or newer" in told
    assert "tensorrt 10.6.0.26 or a later version of the same major one" in told


def test_an_engine_without_weights_is_not_run(path: Path) -> None:
    record = record_of(path)
    record.revised(stripped=True).save()
    with pytest.raises(ImfDeployError, match="has no weights") as caught:
        TensorRTRunner(path).__enter__()
    assert f"imf-deploy refit-engine {path} WEIGHTS" in caught.value.hint
