"""Concurrent requests, on the CPU; on a GPU marked ``gpu``."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from imf_deploy.benchmark import clients
from imf_deploy.benchmark.clients import measure_clients
from imf_deploy.benchmark.stage import bench
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.runners.base import Batch, Logits
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.runners.opening import Way
from imf_deploy.settings import BenchSettings

BATCH = np.zeros((2, 3, 8, 8), np.float32)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A network with one sum in its answer, ``[N, 3, 8, 8] -> [N, 3]``."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])]
    graph = helper.make_graph(nodes, "tiny", values, results)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        tmp_path / "tiny.onnx",
    )
    return tmp_path / "tiny.onnx"


def test_one_client_and_both_kinds_of_sessions(tiny: Path) -> None:
    found = measure_clients(Way(tiny, 4), BATCH, [2, 8], 0.12, 0.0)
    assert [(load.clients, load.sessions, load.threads) for load in found] == [
        (1, "shared", 4), (2, "shared", 4), (2, "own", 2), (8, "shared", 4), (8, "own", 1)
    ]  # fmt: skip
    for load in found:
        assert load.images == 2
        # Every client answers at least once in every round.
        assert load.count >= load.clients * clients.ROUNDS
        assert 0 < load.p50_ms <= load.p90_ms <= load.p99_ms
        assert load.images_per_second > 0
    assert found[0].speed == 1


def test_clients_really_run_at_the_same_time(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each waits inside its request for the others: without three at once, the barrier breaks.
    meeting, asked = threading.Barrier(3), threading.local()
    infer = OnnxRuntimeRunner.infer

    def wait(self: OnnxRuntimeRunner, batch: Batch) -> Logits:
        if threading.current_thread() is not threading.main_thread() and not hasattr(asked, "once"):
            asked.once = True
            meeting.wait(30)
        return infer(self, batch)

    monkeypatch.setattr(OnnxRuntimeRunner, "infer", wait)
    way = Way(tiny, 1)
    with way.open() as first, first.share() as second, first.share() as third:
        assert len(clients._round([first, second, third], BATCH, 0.0)) == 3


def test_the_error_of_a_client_is_raised(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    infer = OnnxRuntimeRunner.infer

    def fail(self: OnnxRuntimeRunner, batch: Batch) -> Logits:
        if threading.current_thread().name.startswith("client"):
            raise ImfDeployError("out of memory")
        return infer(self, batch)

    monkeypatch.setattr(OnnxRuntimeRunner, "infer", fail)
    with pytest.raises(ImfDeployError, match="out of memory"):
        measure_clients(Way(tiny, 1), BATCH, [4], 0.1, 0.0)


@pytest.mark.parametrize("kind", ["onnxruntime", "openvino", "pytorch"])
def test_a_shared_runner_answers_as_the_first(kind: str, tiny: Path, product_file: Path) -> None:
    way = Way(product_file if kind == "pytorch" else tiny, 2, runtime=kind)
    if kind == "openvino":
        pytest.importorskip("openvino")
    side = 16 if kind == "pytorch" else 8
    images = np.random.default_rng(0).standard_normal((2, 3, side, side), np.float32)
    with way.open() as first:
        with first.share() as second, ThreadPoolExecutor(2) as pool:
            # Each client has images of its own, so that an answer to another one's shows.
            own = [(first, images), (second, -2 * images)]
            expected = [first.infer(batch) for _, batch in own]
            asked = [pool.submit(lambda one=one: [one[0].infer(one[1]) for _ in range(50)]) for one in own]
            for future, right in zip(asked, expected, strict=True):
                for answer in future.result():
                    np.testing.assert_allclose(answer, right, rtol=1e-4, atol=1e-5)
        # What was borrowed is left; the first runner still works.
        np.testing.assert_allclose(first.infer(images), expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("counts", [[0], [257]])
def test_impossible_numbers_of_clients(tiny: Path, counts: list[int]) -> None:
    with pytest.raises(UsageError, match="`clients`"):
        bench([tiny], BenchSettings(clients=counts))


def test_the_command_prints_a_table_and_writes_json(
    cli: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    output = tmp_path / "bench.json"
    done = cli(
        "bench", tiny, "--clients", "2", "--duration", "0.05", "--loads", "1", "--no-startup", "-o", output
    )
    assert done.code == 0, done.err
    assert "Concurrent requests" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    (row,) = json.loads(output.read_text())["rows"]
    assert [(load["clients"], load["sessions"]) for load in row["clients"]] == [
        (1, "shared"), (2, "shared"), (2, "own")
    ]  # fmt: skip
    assert all(load["images_per_second"] > 0 for load in row["clients"])
