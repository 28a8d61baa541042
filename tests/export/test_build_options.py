from __future__ import annotations

import ctypes
import importlib
from types import SimpleNamespace

import pytest

from imf_deploy.errors import UsageError
from imf_deploy.export import build_options
from imf_deploy.export.build_options import BuildOptions
from imf_deploy.export.flavour import import_tensorrt


@pytest.mark.parametrize("level", [-1, 6])
def test_a_level_out_of_range(level: int) -> None:
    with pytest.raises(UsageError, match="--builder-level"):
        BuildOptions(level=level)


@pytest.mark.parametrize("mib", [0, -5, 1 << 21])
def test_a_workspace_out_of_range(mib: int) -> None:
    with pytest.raises(UsageError, match="--workspace"):
        BuildOptions(workspace_mib=mib)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (BuildOptions(version_compatible=True), "--version-compatible"),
        (BuildOptions(hardware_compatible=True), "--hardware-compatible"),
        (BuildOptions(level=0), "--builder-level"),
        (BuildOptions(strip_weights=True), "--strip-weights"),
    ],
)
def test_what_rtx_does_not_have_is_refused(options: BuildOptions, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is an option of the full TensorRT"):
        options.check("rtx")


def test_what_both_have_is_not_refused() -> None:
    BuildOptions(workspace_mib=64).check("rtx")
    BuildOptions(hardware_compatible=True, level=5, strip_weights=True).check("tensorrt")


def test_other_versions_need_the_lean_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        build_options, "import_tensorrt", lambda flavour: SimpleNamespace(__version__="10.6.0")
    )
    options = BuildOptions(version_compatible=True)
    with pytest.raises(UsageError, match=r"libnvinfer_lean\.so\.10 cannot be loaded") as caught:
        options.check("tensorrt")
    assert 'pip install "tensorrt_lean==10.6.0"' in caught.value.hint
    loaded: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", loaded.append)
    options.check("tensorrt")
    assert loaded == ["libnvinfer_lean.so.10"]


def test_the_record_holds_what_was_given() -> None:
    assert BuildOptions().to_dict() == {}
    assert BuildOptions(level=0, version_compatible=True).to_dict() == {
        "version_compatible": True,
        "level": 0,
    }


@pytest.mark.usefixtures("rtx")
def test_options_reach_the_builder() -> None:
    trt = import_tensorrt("rtx")
    session = importlib.import_module("imf_deploy.export.builder").open_session("rtx")
    config = session.builder.create_builder_config()
    assert config.get_flag(trt.BuilderFlag.TF32)
    BuildOptions(True, True, 2, 64, True).apply(trt, config)
    assert not config.get_flag(trt.BuilderFlag.TF32)
    assert all(
        config.get_flag(getattr(trt.BuilderFlag, name))
        for name in ("VERSION_COMPATIBLE", "REFIT", "STRIP_PLAN")
    )
    assert config.builder_optimization_level == 2
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 64 << 20
