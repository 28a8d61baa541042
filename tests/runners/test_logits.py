"""Which output holds the logits, of real files with several outputs and of every shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from imf_deploy.errors import UsageError
from imf_deploy.runners.logits import find_logits, read_logits
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.runners.openvino import OpenVinoRunner

PATH = Path("net.onnx")


def zeros(*shape: int, kind: type = np.float32) -> Any:
    return np.zeros(shape, kind)


@pytest.mark.parametrize("shape", [(4, 10), (4, 10, 1, 1), (4, 1, 10), (4, 1, 1, 10)])
@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
def test_axes_of_length_one_are_removed(shape: tuple[int, ...], kind: type) -> None:
    values = np.arange(40).reshape(shape).astype(kind)
    assert find_logits(PATH, {"y": values}, 4, 10) == "y"
    logits = read_logits(PATH, "y", values, 4, 10)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, np.arange(40).reshape(4, 10))


@pytest.mark.parametrize(
    "values",
    [
        zeros(4, 1),
        zeros(4, 8),
        zeros(4, 11),
        zeros(10, 4),  # transposed
        zeros(1, 10),  # one row for four images
        zeros(40),
        zeros(4, 2, 5),  # ten values, and no axis of ten
        zeros(4, 10, 7, 7),  # a map of scores
        zeros(4, 10, kind=np.int64),
        zeros(4, 10, kind=np.bool_),
        [{0: 0.5}] * 4,  # what ZipMap returns
    ],
)
def test_what_is_no_row_of_logits_for_each_image_is_refused(values: Any) -> None:
    with pytest.raises(UsageError, match=r"net.onnx has no output .* each of 10 labels.* batch of 4 .*'y'"):
        find_logits(PATH, {"y": values}, 4, 10)
    with pytest.raises(UsageError):
        find_logits(PATH, {"y": values}, 4, 10, "y")
    with pytest.raises(UsageError):
        read_logits(PATH, "y", values, 4, 10)


def test_the_one_that_fits_is_taken_wherever_it_stands() -> None:
    outputs = {"feat": zeros(4, 48), "map": zeros(4, 10, 7, 7), "label": zeros(4, kind=np.int64)}
    for place in range(4):
        items = list(outputs.items())
        items.insert(place, ("scores", zeros(4, 10)))
        assert find_logits(PATH, dict(items), 4, 10) == "scores"


def test_several_that_fit_are_named_and_one_may_be_chosen() -> None:
    outputs = {"main": zeros(4, 10), "aux": zeros(4, 10), "feat": zeros(4, 48)}
    with pytest.raises(
        UsageError, match=r"2 outputs .*'main' \[4, 10\], 'aux' \[4, 10\].*`logits`"
    ) as caught:
        find_logits(PATH, outputs, 4, 10)
    assert "feat" not in str(caught.value)
    assert find_logits(PATH, outputs, 4, 10, "aux") == "aux"
    with pytest.raises(UsageError, match="no output 'other', only main, aux, feat"):
        find_logits(PATH, outputs, 4, 10, "other")
    with pytest.raises(UsageError, match=r"'feat' \[4, 48\]"):
        find_logits(PATH, outputs, 4, 10, "feat")


def test_an_error_lists_a_few_of_many_outputs() -> None:
    with pytest.raises(UsageError, match=r"and 92 more\. ") as caught:
        find_logits(PATH, {f"o{index}": zeros(4, 3) for index in range(100)}, 4, 10)
    assert "\n" not in str(caught.value)


def test_names_of_any_length_make_a_short_error() -> None:
    outputs = {"n" * 1_000_000 + str(index): zeros(4, 3) for index in range(20)}
    for wanted in ("", "w" * 1_000_000, next(iter(outputs))):
        with pytest.raises(UsageError) as caught:
            find_logits(PATH, outputs, 4, 10, wanted)
        assert len(str(caught.value)) < 1500


def two_outputs(path: Path) -> Path:
    """Write a file whose first output has 5 columns and whose second has 2, as ``[N, 2, 1, 1]``."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("features", "scores")]
    graph = helper.make_graph(
        [
            helper.make_node("Identity", ["x"], ["features"]),
            helper.make_node("Slice", ["x", "zero", "two", "one"], ["pair"]),
            helper.make_node("Unsqueeze", ["pair", "axes"], ["scores"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5])],
        ends,
        [
            onnx.numpy_helper.from_array(np.array(value), name)
            for name, value in {"zero": [0], "one": [1], "two": [2], "axes": [2, 3]}.items()
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_the_runner_decides_by_a_run_and_keeps_to_it(tmp_path: Path) -> None:
    path = two_outputs(tmp_path / "two.onnx")
    batch = np.arange(15, dtype=np.float32).reshape(3, 5)
    with OnnxRuntimeRunner(path, 1, classes=2) as runner:
        for rows in (batch, batch[:1]):
            np.testing.assert_array_equal(runner.infer(rows), rows[:, :2])
            assert runner.output_name == "scores"
    with OnnxRuntimeRunner(path, 1, classes=5) as runner:
        np.testing.assert_array_equal(runner.infer(batch), batch)
    with (
        OnnxRuntimeRunner(path, 1, classes=3) as runner,
        pytest.raises(UsageError, match=r"3 labels.*'features' \[3, 5\], 'scores' \[3, 2, 1, 1\]"),
    ):
        runner.infer(batch)


@pytest.mark.parametrize("runner", [OnnxRuntimeRunner, OpenVinoRunner])
def test_without_classes_an_output_is_returned_as_it_is(tmp_path: Path, runner: Any) -> None:
    if runner is OpenVinoRunner:
        pytest.importorskip("openvino")
    path = two_outputs(tmp_path / "two.onnx")
    batch = np.arange(15, dtype=np.float32).reshape(3, 5)
    with runner(path, 1) as first, runner(path, 1, logits="scores") as second:
        assert first.infer(batch).shape == (3, 5)
        assert second.infer(batch).shape == (3, 2, 1, 1)
        assert second.output_name == "scores"
    with pytest.raises(UsageError, match="no output 'other'"), runner(path, 1, logits="other"):
        pass
