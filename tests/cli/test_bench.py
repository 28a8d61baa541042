"""``imf-deploy bench`` as a command: its options, its JSON, and engines where there is no GPU."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

Cli = Callable[..., Any]
QUICK = ["--duration", "0", "--warmup", "0", "--loads", "6", "--iterations", "6", "--threads", "1"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A network of two operators."""
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["y"])]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["n", 3, 8, 8]), ("y", ["n", 3]))
    ]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:])
    path = tmp_path / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def test_rows_and_json(cli: Cli, file: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    both = ["--runtime", "onnxruntime,openvino", "--baseline", "tiny.onnx (openvino)"]
    result = cli("bench", file, *QUICK, *both, "--batch", "1,2", "--output", output)
    assert result.code == 0, result.err
    assert "to baseline" in result.out
    assert "loads in" in result.out
    content = json.loads(output.read_text())
    assert [(row["name"], row["images"]) for row in content["rows"]] == [
        ("tiny.onnx (onnxruntime)", 1), ("tiny.onnx (openvino)", 1),
        ("tiny.onnx (onnxruntime)", 2), ("tiny.onnx (openvino)", 2),
    ]  # fmt: skip
    assert [row["ratio"] is None for row in content["rows"]] == [False, True, False, True]
    assert all(row["start_up"]["load_ms"] > 0 for row in content["rows"])
    assert content["conditions"]["energy"]
    assert content["settings"]["loads"] == 6
    again = cli("bench", file, *QUICK, "--output", output)
    assert again.code == 2
    assert "--overwrite" in again.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_an_engine_of_ultralytics_without_a_gpu(cli: Cli, tmp_path: Path) -> None:
    path, metadata = tmp_path / "yolo.engine", json.dumps({"task": "classify", "imgsz": [8, 8]}).encode()
    plan = b"ftrt" + bytes(20) + bytes([10, 13, 2, 6]) + bytes(100)
    path.write_bytes(struct.pack("<i", len(metadata)) + metadata + plan)
    result = cli("bench", path, *QUICK)
    assert result.code == 4
    for fact in ("TensorRT 10.13.2.6 engine", "no CUDA device was found", "It needs the model of NVIDIA GPU"):
        assert fact in result.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--runtime", "ncnn"], "--runtime"),
        (["--pytorch", ""], "--pytorch"),
        (["--threads", "-1"], "--threads"),
        (["--loads", "3", "--runtime", "onnxruntime,openvino"], "6 loads"),
        (["--baseline", "other.onnx"], "--baseline"),
    ],
)
def test_options_that_mean_nothing(cli: Cli, file: Path, options: list[str], told: str) -> None:
    result = cli("bench", file, *QUICK, *options)
    assert result.code == 2
    assert told in result.err
    assert "Traceback" not in result.err
