"""Load time, first inference and memory, in a process of their own."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.benchmark.startup import start_up
from imf_deploy.benchmark.ways import ways_of
from imf_deploy.runners.opening import Way
from imf_deploy.settings import BenchSettings

BATCH = np.zeros((1, 64), np.float32)


def weights(path: Path, mib: int) -> Path:
    """Write ``[N, 3, 8, 8] -> [N, mib * 2**18 / 192]``, one matrix product of so many MiB."""
    width = mib * 2**18 // 192
    matrix = np.ones((192, width), np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])],
        [numpy_helper.from_array(matrix, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_is_that_of_the_file_alone(tmp_path: Path) -> None:
    batch = np.zeros((1, 3, 8, 8), np.float32)
    # What this process holds must not be counted there.
    ballast = np.ones(200 * 2**18, np.float32)
    small, large = (start_up(Way(weights(tmp_path / f"{mib}.onnx", mib), 1), batch) for mib in (1, 64))
    assert ballast.all()
    for found in (small, large):
        assert found["load_ms"] > 0
        assert found["first_inference_ms"] > 0
        memory = found["memory"]
        assert memory["of_file_mib"] == pytest.approx(memory["peak_mib"] - memory["before_load_mib"])
        assert found["device_mib"] is None
    # ONNX Runtime holds the weights and, while it loads, the file; packed copies come and go.
    assert small["memory"]["of_file_mib"] < 40
    assert 64 <= large["memory"]["of_file_mib"] < 400


def test_weights_start_in_pytorch(product_file: Path) -> None:
    found = start_up(ways_of(product_file, BenchSettings(threads=1))[0], np.zeros((2, 3, 16, 16), np.float32))
    assert found["load_ms"] > 0
    json.dumps(found)


def test_a_file_that_does_not_load_gives_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"bad")
    assert "is damaged" in start_up(Way(path, 1), BATCH)["reason"]


def test_weights_outside_the_folder_are_read_by_no_process(tmp_path: Path) -> None:
    inside = tmp_path / "model"
    inside.mkdir()
    model = onnx.load(weights(inside / "a.onnx", 1))
    onnx.save(model, inside / "a.onnx", save_as_external_data=True, location="a.bin", size_threshold=0)
    (inside / "a.bin").rename(tmp_path / "a.bin")
    (inside / "a.bin").symlink_to(tmp_path / "a.bin")
    assert "outside its own folder" in start_up(Way(inside / "a.onnx", 1), BATCH)["reason"]


def test_a_process_that_dies_gives_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = importlib.import_module("imf_deploy.benchmark.startup")
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    assert start_up(Way(weights(tmp_path / "a.onnx", 1), 1), BATCH)["reason"].startswith(
        "the other process ended with 1"
    )


def test_a_process_that_hangs_is_ended(tmp_path: Path) -> None:
    path = weights(tmp_path / "a.onnx", 1)
    assert "did not end" in start_up(Way(path, 1), BATCH, limit_s=0.01)["reason"]


def test_the_other_process_loads_pytorch_only_for_weights() -> None:
    code = "import imf_deploy.benchmark.probe, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", (
        "its memory and time would be those of libraries that the file does not use"
    )
