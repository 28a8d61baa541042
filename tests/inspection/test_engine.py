from __future__ import annotations

import json
from pathlib import Path

import pytest

from imf_deploy.errors import ImfDeployError
from imf_deploy.files import sha256_file
from imf_deploy.inspection import inspect
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.checks import Verification
from imf_deploy.records.files import EngineFile
from imf_deploy.settings import Gate


def rtx_header(mask: int = 2 | 4 | 8 | 16 | 32 | 64) -> bytes:
    """The header of a TensorRT-RTX engine of 100 bytes, as real ones have it."""
    start = b"vtrt" + bytes(12) + (100).to_bytes(8, "little") + bytes([1, 7, 1, 116])
    return (start + b"vtrt" + mask.to_bytes(8, "little")).ljust(100, b"\0")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "a.engine"
    path.write_bytes(rtx_header())
    return path


def add_record(path: Path, format_: str = "tensorrt_rtx") -> None:
    EngineFile(
        path=path,
        sha256=sha256_file(path),
        format=format_,
        parent="",
        recipe="",
        model={"name": "resnet8"},
        preprocess=Preprocess(16, "none", 16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), ("a", "b")),
        product="plain",
        targets=[],
        batch="1:1:8",
        verify=Verification(status="not-run", reason="no CUDA device", gate=Gate(), ladder=[]),
    ).save()


def test_an_engine_with_its_record(engine: Path) -> None:
    add_record(engine)
    found = inspect(engine)
    assert found.title == "the product plain as a TensorRT-RTX 1.7.1.116 engine"
    assert found.facts["targets"] == ["SM80", "SM86", "SM89", "SM120", "SM121"]
    assert found.facts["portable"] is True
    assert found.warnings == []
    assert found.record is not None
    assert found.record["matches"]
    assert found.record["verify"]["reason"] == "no CUDA device"


@pytest.mark.parametrize("suffix", [".engine", ".trt", ".plan"])
def test_a_full_tensorrt_engine_without_a_record(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"b{suffix}"
    path.write_bytes((b"ftrt" + bytes(20) + bytes([10, 8, 0, 43])).ljust(64, b"\0"))
    found = inspect(path)
    assert found.title == "a TensorRT 10.8.0.43 engine"
    assert "model of NVIDIA GPU that it was built on" in found.facts["to_run"]
    assert any("no sidecar" in warning for warning in found.warnings)


def test_the_prefix_of_ultralytics_is_shown(engine: Path) -> None:
    about = json.dumps({"stride": 32, "names": {"0": "cat"}}).encode()
    engine.write_bytes(len(about).to_bytes(4, "little") + about + engine.read_bytes())
    found = inspect(engine)
    assert found.facts["plan_offset"] == 4 + len(about)
    assert found.facts["prefix"] == {"stride": 32, "names": {"0": "cat"}}
    assert found.facts["plan_bytes"] == 100


def test_a_record_of_the_other_library(engine: Path) -> None:
    add_record(engine, "tensorrt")
    assert "Its sidecar states tensorrt, but its header tensorrt_rtx" in inspect(engine).warnings


@pytest.mark.parametrize("content", [b"", b"vtrt", b"nothing at all", rtx_header()[:90], rtx_header(0)])
def test_no_whole_engine(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.engine").write_bytes(content)
    with pytest.raises(ImfDeployError):
        inspect(tmp_path / "a.engine")
