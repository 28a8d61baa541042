"""The ONNX Runtime runner: real sessions, and clear errors for every bad file."""

import importlib
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.errors import DeviceError, ImfDeployError, UsageError
from imf_deploy.runners.onnxruntime import CPU, PROVIDERS, OnnxRuntimeRunner
from imf_deploy.runners.opening import open_file

MakeOnnx = Callable[..., Path]


def images(number: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((number, 3, side, side), dtype=np.float32)


def test_it_runs_any_batch_and_reads_names_and_shape_from_the_file(onnx_file: Path) -> None:
    with OnnxRuntimeRunner(onnx_file, threads=1) as runner:
        assert runner.input_shape == (None, 3, 8, 8)
        all_five = runner.infer(images(5))
        assert all_five.shape == (5, 4)
        np.testing.assert_allclose(runner.infer(images(5)[2:3]), all_five[2:3], rtol=1e-5)


def test_it_agrees_with_the_reference_evaluator(onnx_file: Path) -> None:
    from onnx.reference import ReferenceEvaluator

    expected = ReferenceEvaluator(onnx.load(onnx_file)).run(None, {"images": images(2)})[0]
    with OnnxRuntimeRunner(onnx_file) as runner:
        np.testing.assert_allclose(runner.infer(images(2)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"no network", b"\x08\x09" + bytes(range(256)) * 8])
def test_files_that_are_no_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with (
        pytest.raises(ImfDeployError, match=r"bad\.onnx is damaged or not an ONNX file"),
        OnnxRuntimeRunner(path),
    ):
        pass


def test_a_file_cut_anywhere_gives_an_error_and_no_crash(onnx_file: Path) -> None:
    whole = onnx_file.read_bytes()
    for length in range(0, len(whole), 7):
        onnx_file.write_bytes(whole[:length])
        with pytest.raises(ImfDeployError), OnnxRuntimeRunner(onnx_file, threads=1) as runner:
            runner.infer(images(1))


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(UsageError), OnnxRuntimeRunner(path):
            pass


@pytest.mark.parametrize("how", ["../", "link"])
def test_weights_outside_the_folder_are_refused_before_the_runtime_is_asked(
    tmp_path: Path, make_outside: MakeOnnx, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("some versions of the runtime would have read it")

    monkeypatch.setattr(onnxruntime, "InferenceSession", asked)
    with (
        pytest.raises(ImfDeployError, match="outside its own folder"),
        OnnxRuntimeRunner(make_outside(tmp_path, how)),
    ):
        pass


def test_a_file_is_looked_into_once_until_it_changes(
    onnx_file: Path, tmp_path: Path, make_outside: MakeOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    module = importlib.import_module("imf_deploy.runners.onnx_data")
    whole = module.read_model
    monkeypatch.setattr(module, "read_model", lambda path: seen.append(path) or whole(path))
    for _ in range(3):
        with OnnxRuntimeRunner(onnx_file, 1):
            pass
    assert seen == [onnx_file]
    onnx_file.write_bytes(make_outside(tmp_path, "../").read_bytes())
    with pytest.raises(ImfDeployError), OnnxRuntimeRunner(onnx_file, 1):
        pass
    assert seen == [onnx_file] * 2


def test_an_input_that_is_not_float32_is_named(tmp_path: Path, make_onnx: MakeOnnx) -> None:
    path = make_onnx(tmp_path / "half.onnx", kind=TensorProto.FLOAT16)
    with pytest.raises(ImfDeployError, match=r"images: tensor\(float16\)"), OnnxRuntimeRunner(path):
        pass


def test_a_network_with_two_inputs_is_refused(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "abc"]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "add", values[:2], values[2:])
    path = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    with pytest.raises(ImfDeployError, match="one float32 input"), OnnxRuntimeRunner(path):
        pass


def test_a_batch_that_does_not_fit_is_explained(tmp_path: Path, make_onnx: MakeOnnx) -> None:
    with OnnxRuntimeRunner(make_onnx(tmp_path / "one.onnx", batch=1)) as runner:
        assert runner.input_shape == (1, 3, 8, 8)
        with pytest.raises(ImfDeployError, match=r"shape \[2, 3, 8, 8\].*\[1, 3, 8, 8\]"):
            runner.infer(images(2))


def test_a_missing_provider_is_no_silent_downgrade(onnx_file: Path) -> None:
    providers = ("NoSuchExecutionProvider", "CPUExecutionProvider")
    with (
        pytest.raises(DeviceError, match="NoSuchExecutionProvider"),
        OnnxRuntimeRunner(onnx_file, 1, providers),
    ):
        pass


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT64])
def test_other_types_are_taken_where_they_are_asked_for(tmp_path: Path, kind: int) -> None:
    ends = [helper.make_tensor_value_info(name, kind, ["n", 5]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", ends[:1], ends[1:])
    path = tmp_path / "same.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    with pytest.raises(ImfDeployError, match="must have one float32 input"), OnnxRuntimeRunner(path, 1):
        pass
    with OnnxRuntimeRunner(path, 1, any_type=True) as runner:
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        assert (runner.input_name, runner.input_shape) == ("x", (None, 5))
        assert runner.input_type == dtype.name
        batch = np.arange(10).reshape(2, 5).astype(dtype)
        np.testing.assert_array_equal(runner.infer(batch), batch)


def test_the_session_says_what_it_has(onnx_file: Path) -> None:
    with OnnxRuntimeRunner(onnx_file, 1) as runner:
        assert runner.session == {"providers": ["CPUExecutionProvider"], "operators_on_cpu": True}


@pytest.mark.skipif(
    "AzureExecutionProvider" not in onnxruntime.get_available_providers(), reason="another package of it"
)
def test_operators_that_another_provider_leaves_to_the_cpu_are_reported(onnx_file: Path) -> None:
    # This provider runs no operator of ours, as a GPU's does not run some.
    providers = ("AzureExecutionProvider", *CPU)
    with OnnxRuntimeRunner(onnx_file, 1, providers) as runner, OnnxRuntimeRunner(onnx_file, 1) as expected:
        assert runner.session == {"providers": list(providers), "operators_on_cpu": True}
        np.testing.assert_array_equal(runner.infer(images(2)), expected.infer(images(2)))


def test_a_gpu_is_first_asked_to_run_everything(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], bool, bool]] = []
    real = onnxruntime.InferenceSession

    class Session:
        """Real, on the CPU, under another name; whether it may fall back is read from its settings."""

        def __init__(
            self, path: str, options: Any, providers: list[str], enable_fallback: int, **_: Any
        ) -> None:
            try:
                strict = options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
            except RuntimeError:
                strict = False
            asked.append((providers, strict, bool(enable_fallback)))
            self._session = real(path, providers=["CPUExecutionProvider"])
            self._providers = providers

        def get_providers(self) -> list[str]:
            return [*dict.fromkeys([*self._providers, "CPUExecutionProvider"])]

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    with OnnxRuntimeRunner(onnx_file, 1, PROVIDERS["cuda"]) as runner:
        assert runner.session == {"providers": names, "operators_on_cpu": False}
    assert asked == [(["CUDAExecutionProvider"], True, False)]


def test_threads_spin_only_where_time_is_measured(onnx_file: Path) -> None:
    answers = []
    for spin in (True, False):
        with OnnxRuntimeRunner(onnx_file, 2, spin=spin) as runner:
            assert _spins(runner) is spin
            answers.append(runner.infer(images(3)))
    assert np.array_equal(*answers)
    with open_file(onnx_file, "onnx") as opened:
        assert not _spins(opened)


def _spins(runner: Any) -> bool:
    options = runner._session.get_session_options()
    try:
        return bool(options.get_session_config_entry("session.intra_op.allow_spinning") != "0")
    except RuntimeError:  # it is not set
        return True


def test_it_must_be_entered(onnx_file: Path) -> None:
    with pytest.raises(ImfDeployError, match="not open"):
        OnnxRuntimeRunner(onnx_file).infer(images(1))


def deep(path: Path, layers: int = 12, channels: int = 32, side: int = 28) -> Path:
    """Write a stack of convolutions that takes about a millisecond, long enough to be timed."""
    random = np.random.default_rng(0)
    counts = [3, *[channels] * layers]
    weights = [
        numpy_helper.from_array(
            (random.standard_normal((after, before, 3, 3)) / 20).astype(np.float32), f"w{i}"
        )
        for i, (before, after) in enumerate(itertools.pairwise(counts))
    ]
    nodes = [
        helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], pads=[1, 1, 1, 1]) for i in range(layers)
    ]
    ends = [
        helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, ["n", c, side, side])
        for i, c in ((0, 3), (layers, channels))
    ]
    graph = helper.make_graph(nodes, "deep", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def test_what_is_measured_is_what_a_plain_loop_around_the_session_measures(tmp_path: Path) -> None:
    path, batch = deep(tmp_path / "deep.onnx"), images(1, side=28)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    plain: list[int] = []
    ours: list[int] = []
    clock = time.thread_time_ns
    with OnnxRuntimeRunner(path, threads=1) as runner:
        for _ in range(60):
            start = clock()
            session.run(None, {"x0": batch})
            plain.append(clock() - start)
            start = clock()
            runner.infer(batch)
            ours.append(clock() - start)
    # Of processor time, the least of many: a busy machine adds to some, a hidden cost would add to all.
    assert 0.5 < min(ours) / min(plain) < 2


def test_nothing_is_copied_on_the_way_in_or_out(onnx_file: Path) -> None:
    batch, given, result = images(2), [], np.zeros((2, 4), np.float32)

    class Spy:
        def run(self, outputs: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            given.append(feeds["images"])
            return [result]

    with OnnxRuntimeRunner(onnx_file) as runner:
        runner._session = Spy()
        found = runner.infer(batch)
    assert given[0] is batch
    assert found is result


@pytest.mark.gpu
@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers() or not torch.cuda.is_available(),
    reason="no CUDA device, or no CUDA provider",
)
def test_cuda_agrees_with_the_cpu(onnx_file: Path) -> None:
    with (
        OnnxRuntimeRunner(onnx_file) as cpu,
        OnnxRuntimeRunner(onnx_file, providers=PROVIDERS["cuda"]) as gpu,
    ):
        assert gpu.name == "onnxruntime CUDA"
        np.testing.assert_allclose(gpu.infer(images(3)), cpu.infer(images(3)), rtol=1e-2, atol=1e-2)


def half_quantised(path: Path) -> Path:
    """Write Q -> DQ -> Conv -> Relu -> Q -> DQ in fp16, whose bias has a scale that fp16 cannot hold."""
    half = np.float16
    weights = {
        "scale": half(1e-3), "zero": np.int8(0), "bias": half([0.3, -0.2, 0.1, 0.4]),
        "weight": np.random.default_rng(0).integers(-127, 128, (4, 3, 3, 3), np.int8),
        "weight_scale": half([1e-4] * 4), "weight_zero": np.zeros(4, np.int8), "out": half(4e-3),
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["images"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("QuantizeLinear", ["half", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["w"], axis=0),
        helper.make_node("Conv", ["dq", "w", "bias"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "out", "zero"], ["q2"]),
        helper.make_node("DequantizeLinear", ["q2", "out", "zero"], ["dq2"]),
        helper.make_node("GlobalAveragePool", ["dq2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Cast", ["f"], ["logits"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "half",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(np.array(value), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_fp16_biases_stay_as_they_are(tmp_path: Path) -> None:
    path = half_quantised(tmp_path / "half.onnx")
    images = np.random.default_rng(1).standard_normal((2, 3, 8, 8), np.float32) / 10
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    with OnnxRuntimeRunner(path, keep_floats=True) as runner:
        found = runner.infer(images)
    np.testing.assert_allclose(found, session.run(None, {"images": images})[0], atol=2e-3)
