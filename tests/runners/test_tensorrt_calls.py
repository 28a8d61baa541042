"""The calls that the TensorRT runner makes, in their order, against a stand-in for the library and GPU.

What a GPU computes is tested by the ``gpu`` tests; what this shows is that nothing is captured before
an eager run, that a new shape means new buffers and a new capture, and that errors are ours.
"""

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from imf_deploy.errors import ImfDeployError
from imf_deploy.runners import tensorrt as subject
from imf_deploy.runners.tensorrt import TensorRTRunner

LIMIT = 4
PROFILES = [(1, 2, 2), (2, LIMIT, LIMIT)]


class Context:
    """Computes ``logits = images.sum((1, 2, 3))`` as ``[N, 1]`` on addresses, as the real one does."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.active_optimization_profile = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.address: dict[str, int] = {}

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        assert stream == 7
        self.log.append(f"profile {index}")
        self.active_optimization_profile = index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.log.append(f"shape {shape[0]}")
        self.shapes = {name: shape, "logits": (shape[0], 1)}
        low, _, high = PROFILES[self.active_optimization_profile]
        return low <= shape[0] <= high

    def infer_shapes(self) -> list[str]:
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.address[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 7
        self.log.append("execute")
        self.array("logits")[:] = self.array("images").sum((1, 2, 3))[:, None]
        return True

    def array(self, name: str) -> np.ndarray:
        shape = self.shapes[name]
        memory = (ctypes.c_float * int(np.prod(shape))).from_address(self.address[name])
        return np.frombuffer(memory, np.float32).reshape(shape)


class Engine:
    """One input, one output, batches of 1 to 2 and of 2 to 4."""

    num_io_tensors = 2
    num_optimization_profiles = 2
    refittable = False

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def get_tensor_name(self, index: int) -> str:
        return ("images", "logits")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "images" else "out"

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name="FLOAT")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 3, 2, 2) if name == "images" else (-1, 1)

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [(size, 3, 2, 2) for size in PROFILES[index]]

    def create_runtime_config(self) -> Any:
        return SimpleNamespace()

    def create_execution_context(self, config: Any) -> Context:
        self.log.append(config.dynamic_shapes_kernel_specialization_strategy)
        return Context(self.log)


class Graph:
    """Runs its context again, as a replayed CUDA graph does."""

    context: Context
    log: list[str]

    def replay(self) -> None:
        self.log.append("replay")
        self.context.array("logits")[:] = self.context.array("images").sum((1, 2, 3))[:, None]


class Event:
    """Tells its place in the log when it is recorded; time is the distance of places."""

    def __init__(self, log: list[str]) -> None:
        self.log, self.place = log, 0

    def record(self) -> None:
        self.log.append("event")
        self.place = len(self.log)

    def elapsed_time(self, end: "Event") -> float:
        return float(end.place - self.place)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put the stand-ins in place; returns what they are asked to do."""
    calls: list[str] = []
    trt = SimpleNamespace(
        __name__="tensorrt_rtx",
        __version__="0.0.0",
        Runtime=lambda logger: SimpleNamespace(
            deserialize_cuda_engine=lambda plan: Engine(calls) if plan == b"plan" else None
        ),
        TensorIOMode=SimpleNamespace(INPUT="in"),
        DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER="eager"),
    )
    header = SimpleNamespace(flavour="rtx", version="0.0.0", offset=2, targets=("86",), portable=False)
    monkeypatch.setattr(subject, "read_engine_header", lambda path: header)
    monkeypatch.setattr(subject, "require_gpu", lambda path, header: None)
    monkeypatch.setattr(subject, "load_library", lambda header: trt)
    logger = SimpleNamespace(clear=lambda: None, reason=lambda: "bad version")
    monkeypatch.setattr(subject, "library_log", lambda flavour: logger)

    stream = SimpleNamespace(cuda_stream=7, synchronize=lambda: None)
    empty = torch.empty

    @contextlib.contextmanager
    def capture(graph: Graph, stream: Any, capture_error_mode: str) -> Iterator[None]:
        calls.append("capture")
        yield
        calls.append("captured")

    monkeypatch.setattr(torch, "empty", lambda size, dtype, **where: empty(size, dtype=dtype))
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: Event(calls))
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(Graph, "log", calls, raising=False)
    return calls


def opened(path: Path, content: bytes = b"{}plan", **options: Any) -> TensorRTRunner:
    path = path / "any.engine"
    path.write_bytes(content)
    return TensorRTRunner(path, **options)


def check(runner: TensorRTRunner, number: int) -> np.ndarray:
    batch = np.random.default_rng(number).standard_normal((number, 3, 2, 2), dtype=np.float32)
    if hasattr(runner, "_context"):
        Graph.context = runner._context
    found = runner.infer(batch)
    np.testing.assert_allclose(found, batch.sum((1, 2, 3))[:, None], rtol=1e-5)
    return found


def test_a_graph_is_captured_after_an_eager_run_and_again_for_a_new_shape(
    tmp_path: Path, log: list[str]
) -> None:
    with opened(tmp_path) as runner:
        assert runner.name == "tensorrt_rtx"
        assert runner.input_shape == (None, 3, 2, 2)
        first = check(runner, 2)
        kept = first.copy()
        check(runner, 2)
        np.testing.assert_array_equal(first, kept)  # the next run must not write into it
        check(runner, 1)
    capture = ["execute", "capture", "execute", "captured", "replay"]
    assert log == ["eager", "shape 2", *capture, "replay", "shape 1", *capture]


def test_each_batch_runs_in_the_profile_that_is_tuned_closest_to_it(tmp_path: Path, log: list[str]) -> None:
    with opened(tmp_path, cuda_graph=False) as runner:
        for size in (1, 4, 3, 2):
            check(runner, size)
    run = ["execute", "execute"]
    expected = ["shape 1", *run, "profile 1", "shape 4", *run, "shape 3", *run, "profile 0", "shape 2", *run]
    assert log[1:] == expected


def test_without_a_graph_every_run_is_eager(tmp_path: Path, log: list[str]) -> None:
    with opened(tmp_path, cuda_graph=False) as runner:
        check(runner, 2)
        check(runner, 2)
    assert log == ["eager", "shape 2", "execute", "execute", "execute"]


@pytest.mark.parametrize(("cuda_graph", "run"), [(True, "replay"), (False, "execute")])
def test_a_trace_has_events_around_each_part(
    tmp_path: Path, log: list[str], cuda_graph: bool, run: str
) -> None:
    with opened(tmp_path, cuda_graph=cuda_graph) as runner:
        check(runner, 2)
        log.clear()
        times = runner.trace(np.zeros((2, 3, 2, 2), np.float32))
    assert log == ["event", "event", run, "event", "event"]
    assert (times.h2d_ms, times.compute_ms, times.d2h_ms) == (1.0, 2.0, 1.0)
    assert times.enqueue_ms > 0


def test_after_a_shape_that_is_refused_the_next_one_is_bound_anew(tmp_path: Path, log: list[str]) -> None:
    with opened(tmp_path) as runner:
        check(runner, 2)
        with pytest.raises(ImfDeployError, match=r"built for batches of 1 to 2, or 2 to 4 of \[3, 2, 2\]"):
            runner.infer(np.zeros((LIMIT + 1, 3, 2, 2), np.float32))
        log.clear()
        check(runner, 2)
    assert log[0] == "shape 2"


def test_an_engine_that_the_library_refuses(tmp_path: Path, log: list[str]) -> None:
    with pytest.raises(ImfDeployError, match=r"refuses .*: bad version"), opened(tmp_path, b"{}other"):
        pass
    assert not log


def test_a_closed_runner_does_not_run(tmp_path: Path, log: list[str]) -> None:
    with opened(tmp_path) as runner:
        check(runner, 1)
    with pytest.raises(ImfDeployError, match="not open"):
        runner.infer(np.zeros((1, 3, 2, 2), np.float32))
