from __future__ import annotations

import re
from pathlib import Path

import pytest

from imf_deploy.errors import ImfDeployError
from imf_deploy.export import builder
from imf_deploy.export.builder import open_session
from imf_deploy.export.library_log import library_log
from imf_deploy.export.tensorrt_writer import build_engine, check_readable
from imf_deploy.settings import BatchRange

pytestmark = pytest.mark.usefixtures("rtx")
BATCH = BatchRange(1, 2, 4)


def test_all_engines_share_one_builder(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    builder._builder.cache_clear()
    for precision in ("fp32", "fp16"):
        build_engine(onnx_files[precision], tmp_path / "a.engine", "rtx", BATCH)
    check_readable(onnx_files["fp32"], "rtx")
    assert builder._builder.cache_info().misses == 1


def texts(plan: Path) -> list[bytes]:
    """Return all texts of a plan, without the numbers that TensorRT gives to temporary values.

    They follow from addresses in memory: one file built several times comes out with several numberings.
    """
    return sorted(
        re.sub(rb"__mye\d+", b"__mye", text) for text in re.findall(rb"[ -~]{12,}", plan.read_bytes())
    )


def test_an_engine_does_not_depend_on_what_was_built_before(
    onnx_files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "a.engine"
    build_engine(onnx_files["fp32"], path, "rtx", BATCH)
    first = texts(path)
    assert first
    build_engine(onnx_files["fp16"], path, "rtx", BATCH)
    build_engine(onnx_files["fp32"], path, "rtx", BATCH)
    assert texts(path) == first


def test_errors_of_an_earlier_build_are_forgotten(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ImfDeployError, match="FP32"):
        build_engine(onnx_files["fp32"], tmp_path / "a.engine", "rtx", BATCH, ("75",))
    assert library_log("rtx").errors
    session = open_session("rtx")
    assert not session.log.errors
    assert str(session.failed("it failed")) == "it failed (it gave no reason)."
