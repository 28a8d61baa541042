"""What ``bench`` measures of a real engine, where a GPU runs one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_onnx import tiny_onnx

from imf_deploy.benchmark.stage import bench
from imf_deploy.errors import ImfDeployError
from imf_deploy.export.flavour import choose_flavour
from imf_deploy.export.tensorrt_writer import build_engine
from imf_deploy.runners.engine_facts import why_not_here
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.runners.tensorrt import TensorRTRunner
from imf_deploy.settings import BatchRange, BenchSettings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CLIENTS = 4


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_onnx(tmp_path_factory.mktemp("engine") / "tiny.onnx", side=16, channels=8, classes=8)


@pytest.fixture(scope="module")
def engine(onnx_file: Path) -> Path:
    flavour = choose_flavour("auto").flavour
    if not flavour:
        pytest.skip("no TensorRT is installed")
    path = onnx_file.with_suffix(".engine")
    build_engine(onnx_file, path, flavour, BatchRange(1, 2, 4))
    if reason := why_not_here(path):
        pytest.skip(reason)
    return path


def test_layers_and_clients_of_an_engine(engine: Path) -> None:
    result = bench(
        [engine],
        BenchSettings(duration=0.2, warmup=0.05, loads=6, startup=False, layers=True, clients=(2,)),
    )
    graph, eager = result.rows
    assert graph.layers
    assert not eager.layers
    assert all(layer.name for layer in graph.layers)
    assert any(layer.types for layer in graph.layers)
    assert sum(layer.milliseconds or 0 for layer in graph.layers) > 0
    for row in result.rows:
        assert [(load.clients, load.sessions) for load in row.clients] == [
            (1, "shared"), (2, "shared"), (2, "own")
        ]  # fmt: skip
        assert all(load.images_per_second > 0 for load in row.clients)


def test_the_command_lists_layers(engine: Path, cli: Callable[..., Any]) -> None:
    done = cli("bench", engine, "--layers", "--duration", "0.1", "--loads", "6", "--no-startup")
    assert done.code == 0, done.err
    assert "Layers of tiny.engine" in done.out


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_clients_of_one_engine_each_get_their_own_answers(
    engine: Path, onnx_file: Path, cuda_graph: bool
) -> None:
    generator = np.random.default_rng(1)
    images = [generator.standard_normal((2, 8, 16, 16), dtype=np.float32) for _ in range(CLIENTS)]
    wrong: list[float] = []
    with OnnxRuntimeRunner(onnx_file) as float_runner:
        expected = [float_runner.infer(batch) for batch in images]

    def client(index: int, runner: Any) -> None:
        for _ in range(200):
            difference = float(np.abs(runner.infer(images[index]) / expected[index] - 1).max())
            if difference > 1e-2:
                wrong.append(difference)

    with TensorRTRunner(engine, cuda_graph=cuda_graph) as first:
        runners = [first, *(first.share() for _ in range(CLIENTS - 1))]
        for index, runner in enumerate(runners):
            runner.infer(images[index])
        threads = [threading.Thread(target=client, args=pair) for pair in enumerate(runners)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for runner in runners[1:]:
            runner.__exit__(None, None, None)
    assert not wrong


def test_layers_are_not_timed_inside_a_cuda_graph(engine: Path) -> None:
    with (
        TensorRTRunner(engine, cuda_graph=True) as runner,
        pytest.raises(ImfDeployError, match="inside a CUDA graph"),
    ):
        runner.layers(np.zeros((1, 8, 16, 16), np.float32), 1)
