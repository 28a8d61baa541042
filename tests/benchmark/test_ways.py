"""Rows of a file for the requested ways."""

from pathlib import Path

import pytest

from imf_deploy.benchmark.ways import WAYS, ways_of
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.runners.opening import Way
from imf_deploy.runners.openvino import OpenVinoRunner
from imf_deploy.runners.pytorch import ProductRunner
from imf_deploy.runners.tensorrt import TensorRTRunner
from imf_deploy.settings import BenchSettings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "any"


def ways(file: Path, suffix: str, **choice: object) -> list[Way]:
    path = file.with_suffix(suffix)
    path.write_bytes(b"")
    return ways_of(path, BenchSettings(threads=1, **choice))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("suffix", "choice", "labels"),
    [
        (".onnx", {}, ["onnxruntime"]),
        (".onnx", {"runtime": ("onnxruntime", "openvino")}, ["onnxruntime", "openvino"]),
        (".onnx", {"device": "cuda"}, ["onnxruntime cuda"]),
        (".onnx", {"provider": ("cpu", "tensorrt")}, ["onnxruntime", "onnxruntime tensorrt"]),
        (".safetensors", {}, ["channels-last"]),
        (".safetensors", {"pytorch": ("eager", "compile")}, ["eager", "compile"]),
        (".safetensors", {"device": "cuda"}, ["channels-last, CUDA graph", "channels-last"]),
        (".engine", {}, ["CUDA graph", "no CUDA graph"]),
        (".plan", {"cuda_graph": ("off",)}, ["no CUDA graph"]),
    ],
)
def test_labels(file: Path, suffix: str, choice: dict[str, object], labels: list[str]) -> None:
    assert [way.label for way in ways(file, suffix, **choice)] == labels


def test_devices(file: Path) -> None:
    assert [way.device for way in ways(file, ".onnx", device="cuda:1")] == ["cuda:1"]
    assert [way.device for way in ways(file, ".onnx", provider=("cuda",))] == ["cuda"]
    assert [way.device for way in ways(file, ".onnx", device="cuda", provider=("cpu",))] == ["cpu"]
    assert {way.device for way in ways(file, ".engine")} == {"cuda"}
    assert {way.device for way in ways(file, ".engine", device="cuda:2")} == {"cuda:2"}


@pytest.mark.parametrize(
    ("suffix", "choice", "kind"),
    [
        (".onnx", {}, OnnxRuntimeRunner),
        (".onnx", {"runtime": ("openvino",)}, OpenVinoRunner),
        (".safetensors", {}, ProductRunner),
        (".trt", {}, TensorRTRunner),
    ],
)
def test_runners(file: Path, suffix: str, choice: dict[str, object], kind: type) -> None:
    assert isinstance(ways(file, suffix, **choice)[0].open(), kind)


def test_another_process_can_be_given_a_way(file: Path) -> None:
    for suffix in WAYS:
        for way in ways(file, suffix, device="cuda:1"):
            assert Way.from_dict(way.to_dict()) == way


def test_the_record_s_labels_choose_the_output_and_a_name_wins(finished_run: Path, tmp_path: Path) -> None:
    source = finished_run / "deploy" / "resnet8-imf@1-fp32.onnx"
    (way,) = ways_of(source, BenchSettings(threads=1))
    assert (way.classes, way.logits) == (3, "")
    assert Way.from_dict(way.to_dict()) == way
    # Without its record it is anybody's file.
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(source.read_bytes())
    for way in ways_of(copy, BenchSettings(threads=1, runtime=("onnxruntime", "openvino"), logits="logits")):
        assert (way.classes, way.logits) == (None, "logits")
