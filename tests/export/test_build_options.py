from __future__ import annotations

import ctypes
import importlib
from types import SimpleNamespace

import pytest

from imf_deploy.errors import UsageError
from imf_deploy.export import build_options
from imf_deploy.export.build_options import apply_options, changed_options, check_options
from imf_deploy.export.flavour import import_tensorrt
from imf_deploy.settings import BuildSettings


@pytest.mark.parametrize("level", [-1, 6])
def test_a_level_out_of_range(level: int) -> None:
    with pytest.raises(UsageError, match="`builder_level`"):
        BuildSettings(builder_level=level)


@pytest.mark.parametrize("mib", [0, -5, 1 << 21])
def test_a_workspace_out_of_range(mib: int) -> None:
    with pytest.raises(UsageError, match="`workspace`"):
        BuildSettings(workspace=mib)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (BuildSettings(version_compatible=True), "version_compatible"),
        (BuildSettings(hardware_compatible="ampere+"), "hardware_compatible"),
        (BuildSettings(builder_level=0), "builder_level"),
        (BuildSettings(strip_weights=True), "strip_weights"),
    ],
)
def test_what_rtx_does_not_have_is_refused(options: BuildSettings, name: str) -> None:
    with pytest.raises(UsageError, match=f"`{name}` is an option of the full TensorRT"):
        check_options(options, "rtx")


def test_what_both_have_is_not_refused() -> None:
    check_options(BuildSettings(workspace=64), "rtx")
    check_options(
        BuildSettings(hardware_compatible="ampere+", builder_level=5, strip_weights=True), "tensorrt"
    )


def test_other_versions_need_the_lean_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        build_options, "import_tensorrt", lambda flavour: SimpleNamespace(__version__="10.6.0")
    )
    options = BuildSettings(version_compatible=True)
    with pytest.raises(UsageError, match=r"libnvinfer_lean\.so\.10 cannot be loaded") as caught:
        check_options(options, "tensorrt")
    assert 'pip install "tensorrt_lean==10.6.0"' in caught.value.hint
    loaded: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", loaded.append)
    check_options(options, "tensorrt")
    assert loaded == ["libnvinfer_lean.so.10"]


def test_the_record_holds_what_was_given() -> None:
    assert changed_options(BuildSettings()) == {}
    assert changed_options(BuildSettings(builder_level=0, version_compatible=True)) == {
        "version_compatible": True,
        "builder_level": 0,
    }


@pytest.mark.usefixtures("rtx")
def test_options_reach_the_builder() -> None:
    trt = import_tensorrt("rtx")
    session = importlib.import_module("imf_deploy.export.builder").open_session("rtx")
    config = session.builder.create_builder_config()
    assert config.get_flag(trt.BuilderFlag.TF32)
    apply_options(BuildSettings(True, "ampere+", 2, 64, True), trt, config)
    assert not config.get_flag(trt.BuilderFlag.TF32)
    assert all(
        config.get_flag(getattr(trt.BuilderFlag, name))
        for name in ("VERSION_COMPATIBLE", "REFIT", "STRIP_PLAN")
    )
    assert config.builder_optimization_level == 2
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 64 << 20
