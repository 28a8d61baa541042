"""The OpenVINO runner: the same file and numbers as ONNX Runtime, and the same kind of errors."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.runners.openvino import OpenVinoRunner

MakeOnnx = Callable[..., Path]


def images(number: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((number, 3, side, side), dtype=np.float32)


def test_it_agrees_with_onnxruntime_for_changing_batches(onnx_file: Path) -> None:
    with OpenVinoRunner(onnx_file, threads=1) as runner, OnnxRuntimeRunner(onnx_file, 1) as expected:
        assert runner.input_shape == expected.input_shape == (None, 3, 8, 8)
        for number in (1, 5, 5, 2):
            found = runner.infer(images(number))
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected.infer(images(number)), rtol=1e-4, atol=1e-5)


def test_a_result_outlives_the_next_inference(onnx_file: Path) -> None:
    with OpenVinoRunner(onnx_file, threads=1) as runner:
        first = runner.infer(images(2))
        kept = first.copy()
        runner.infer(images(2) + 1)
        np.testing.assert_array_equal(first, kept)


def test_the_input_is_not_copied(onnx_file: Path) -> None:
    batch = images(2)
    with OpenVinoRunner(onnx_file, threads=1) as runner:
        runner.infer(batch)
        assert np.shares_memory(runner._request.get_input_tensor(0).data, batch)


def test_it_opens_again(onnx_file: Path) -> None:
    runner = OpenVinoRunner(onnx_file, threads=1)
    found = []
    for _ in range(2):
        with runner:
            found.append(runner.infer(images(3)))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("content", [b"", b"no network", b"\x08\x09" + bytes(range(256)) * 8])
def test_files_that_are_no_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ImfDeployError, match=r"bad\.onnx"), OpenVinoRunner(path):
        pass


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError), OpenVinoRunner(tmp_path / "none.onnx"):
        pass


@pytest.mark.parametrize("how", ["../", "link"])
def test_weights_outside_the_folder_are_refused_before_the_runtime_is_asked(
    tmp_path: Path, make_outside: MakeOnnx, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino.frontend

    def asked(*_: object) -> None:
        raise AssertionError("some versions of the runtime would have read it")

    monkeypatch.setattr(openvino.frontend, "FrontEndManager", asked)
    with (
        pytest.raises(ImfDeployError, match="outside its own folder"),
        OpenVinoRunner(make_outside(tmp_path, how)),
    ):
        pass


def test_a_batch_that_does_not_fit_is_explained(tmp_path: Path, make_onnx: MakeOnnx) -> None:
    with OpenVinoRunner(make_onnx(tmp_path / "one.onnx", batch=1), 1) as runner:
        assert runner.input_shape == (1, 3, 8, 8)
        wrong = np.zeros((1, 4, 8, 8), np.float32)
        with pytest.raises(ImfDeployError, match=r"shape \[1, 4, 8, 8\].*\[1, 3, 8, 8\]"):
            runner.infer(wrong)


def test_an_input_that_is_not_float32_is_named(tmp_path: Path, make_onnx: MakeOnnx) -> None:
    path = make_onnx(tmp_path / "half.onnx", kind=TensorProto.FLOAT16)
    with pytest.raises(ImfDeployError, match=r"images: .*f.*16"), OpenVinoRunner(path):
        pass


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT64])
def test_other_types_are_taken_where_they_are_asked_for(tmp_path: Path, kind: int) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    ends = [
        helper.make_tensor_value_info(name, type, ["n", 5])
        for name, type in (("x", kind), ("y", TensorProto.FLOAT))
    ]
    graph = helper.make_graph(nodes, "cast", ends[:1], ends[1:])
    path = tmp_path / "cast.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    with OpenVinoRunner(path, 1, any_type=True) as runner:
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        assert (runner.input_name, runner.input_shape, runner.input_type) == ("x", (None, 5), dtype.name)
        batch = np.arange(10).reshape(2, 5).astype(dtype)
        np.testing.assert_array_equal(runner.infer(batch), batch)


def test_it_must_be_entered(onnx_file: Path) -> None:
    with pytest.raises(ImfDeployError, match="not open"):
        OpenVinoRunner(onnx_file).infer(images(1))


def test_without_openvino_the_extra_is_named(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImfDeployError, match=r'pip install "imf-deploy\[openvino\]"'):
        OpenVinoRunner(onnx_file).__enter__()
