"""Files of other tools: several outputs, other shapes, probabilities, old opsets, metadata of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.calib.model import open_float_model
from imf_deploy.calib.score import file_logits
from imf_deploy.calib.stage import calibrate
from imf_deploy.data import DataSet
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.records.files import Artifact
from imf_deploy.records.making import Output
from imf_deploy.settings import QuantizeSettings

CONFIG = QuantizeSettings(images=60, sensitivity_images=30, keep_int8=True)
PRODUCED = "logits"


@pytest.fixture
def preprocess(many: DataSet, tmp_path: Path) -> Path:
    """The preprocessing as a user writes it."""
    (tmp_path / "preprocess.json").write_text(json.dumps(asdict(many.preprocess)))
    return tmp_path / "preprocess.json"


def behind_logits(path: Path, nodes: list[Any], outputs: list[str], **constants: Any) -> None:
    """Put nodes behind the logits and declare other outputs, without shapes."""
    model = onnx.load(path)
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value), name) for name, value in constants.items()
    )
    del model.graph.output[:]
    for name in outputs:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    onnx.save(model, path)


def scores(artifact: Artifact) -> dict[str, Any]:
    found = asdict(artifact.calibration.validation)
    return found | {name: value["value"] for name, value in found.pop("metrics").items()}


@pytest.fixture(scope="module")
def plain(whole: Path, many: DataSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Scores of the network whose one output is ``[N, 3]``."""
    return scores(calibrate(whole, many, CONFIG, tmp_path_factory.mktemp("plain")))


def features(path: Path) -> str:
    """Return the tensor that the linear layer reads: 8 features."""
    return next(node.input[0] for node in onnx.load(path).graph.node if node.op_type == "Gemm")


def test_a_convolutional_head(
    foreign: Path, preprocess: Path, many: DataSet, tmp_path: Path, plain: dict[str, Any]
) -> None:
    nodes = [helper.make_node("Unsqueeze", [PRODUCED, "axes"], ["map"])]
    behind_logits(foreign, nodes, ["map"], axes=[2, 3])
    made = calibrate(foreign, many, CONFIG, tmp_path / "out", preprocess)
    assert scores(made) == pytest.approx(plain, abs=1e-6)
    assert made.calibration.logits == Output("map", False)


def test_features_before_the_logits(
    foreign: Path, preprocess: Path, many: DataSet, tmp_path: Path, plain: dict[str, Any]
) -> None:
    behind_logits(foreign, [], [features(foreign), PRODUCED])
    made = calibrate(foreign, many, CONFIG, tmp_path / "out", preprocess)
    assert scores(made) == pytest.approx(plain, abs=1e-6)
    assert [output.name for output in onnx.load(made.path).graph.output] == [features(foreign), PRODUCED]


def test_two_outputs_that_fit_are_asked_about(
    foreign: Path, preprocess: Path, many: DataSet, tmp_path: Path, plain: dict[str, Any]
) -> None:
    behind_logits(foreign, [helper.make_node("Neg", [PRODUCED], ["reversed"])], ["reversed", PRODUCED])
    with pytest.raises(UsageError, match=r"2 outputs .*`logits`"):
        calibrate(foreign, many, CONFIG, tmp_path / "out", preprocess)
    made = calibrate(foreign, many, CONFIG, tmp_path / "out", preprocess, logits=PRODUCED)
    assert scores(made)["float_accuracy"] == plain["float_accuracy"]
    assert made.calibration.logits.output == PRODUCED
    # Another output makes another file, whose float accuracy is its own.
    with pytest.raises(UsageError, match="made with other settings"):
        calibrate(foreign, many, CONFIG, tmp_path / "out", preprocess, logits="reversed")
    other = calibrate(foreign, many, CONFIG, tmp_path / "other", preprocess, logits="reversed")
    assert scores(other)["float_accuracy"] < 0.1


@pytest.mark.parametrize(("columns", "told"), [(1, r"\[4, 1\]"), (2, r"\[4, 2\]"), (4, r"\[4, 4\]")])
def test_another_number_of_columns_than_labels(
    foreign: Path, preprocess: Path, many: DataSet, tmp_path: Path, columns: int, told: str
) -> None:
    nodes = [
        helper.make_node("Concat", [PRODUCED, PRODUCED], ["twice"], axis=1),
        helper.make_node("Slice", ["twice", "start", "end", "axis"], ["part"]),
    ]
    behind_logits(foreign, nodes, ["part"], start=[0], end=[columns], axis=[1])
    with pytest.raises(UsageError, match=f"3 labels.*{told}"):
        calibrate(foreign, many, CONFIG, tmp_path / "out", preprocess)
    assert not (tmp_path / "out").exists()


def test_logits_after_a_softmax(
    foreign: Path, preprocess: Path, many: DataSet, tmp_path: Path, plain: dict[str, Any]
) -> None:
    behind_logits(foreign, [helper.make_node("Softmax", [PRODUCED], ["p"], axis=1)], ["p"])
    made = calibrate(foreign, many, CONFIG, tmp_path / "out", preprocess)
    assert made.calibration.logits == Output("p", True)
    for name in ("accuracy", "float_accuracy", "agreement"):
        assert scores(made)[name] == plain[name]
    # The divergence is that of the probabilities, and not of their softmax.
    assert scores(made)["divergence"] == pytest.approx(plain["divergence"], rel=0.05)


@pytest.mark.parametrize("opset", [9, 11])
def test_an_old_file_gives_the_same_int8(
    trained: dict[str, torch.Tensor],
    preprocess: Path,
    many: DataSet,
    tmp_path: Path,
    plain: dict[str, Any],
    opset: int,
) -> None:
    """Of IR 3 with weights among the inputs, or with weights in constants; a batch of -1 in both."""
    weights = {name: value.numpy() for name, value in trained.items()}
    nodes = []
    source = "x"
    for name, stride in (("first", 1), ("second", 2), ("third", 1)):
        wanted = [source, f"{name}.weight", f"{name}.bias"]
        nodes.append(helper.make_node("Conv", wanted, [name], pads=[1] * 4, strides=[stride] * 2))
        nodes.append(helper.make_node("Relu", [name], [source := f"{name}.relu"]))
    nodes += [
        helper.make_node("GlobalAveragePool", [source], ["mean"]),
        helper.make_node("Dropout", ["mean"], ["kept"]),
        helper.make_node("Squeeze", ["kept"], ["flat"], axes=[2, 3]),
        helper.make_node("Gemm", ["flat", "head.weight", "head.bias"], ["y"], transB=1),
    ]
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [-1, 3, 16, 16])]
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [-1, 3])]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    if opset == 9:
        values += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
        graph = helper.make_graph(nodes, "g", values, ends, tensors)
    else:
        constants = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors]
        graph = helper.make_graph([*constants, *nodes], "g", values, ends)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3 if opset == 9 else 6
    )
    onnx.save(model, tmp_path / "old.onnx")
    made = calibrate(tmp_path / "old.onnx", many, CONFIG, tmp_path / "out", preprocess)
    assert scores(made) == pytest.approx(plain, abs=1e-3)
    assert made.opset == 13
    assert made.calibration.session_integer_layers == 4
    onnx.checker.check_model(onnx.load(made.path), full_check=True)


FOREIGN = {
    "deep": "[" * 5000,
    "list": "[1, 2]",
    "words": "resize to 224",
    "their own": '{"mean": 127.5}',
    "wrong types": '{"size": {}, "resize": "crop", "resize_to": 1, "mean": [0, 0, 0], "std": "abc"}',
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
def test_metadata_of_other_tools_under_our_keys(
    foreign: Path, preprocess: Path, tmp_path: Path, content: str
) -> None:
    model = onnx.load(foreign)
    for key in ("model", "preprocess", "labels", "product", "precision"):
        model.metadata_props.add(key=key, value=content)
    onnx.save(model, foreign)
    with pytest.raises(UsageError, match=r"metadata 'preprocess' of .*`preprocess`") as caught:
        open_float_model(foreign)
    assert "\n" not in str(caught.value)
    opened = open_float_model(foreign, preprocess)
    assert [note.split(" of ")[0] for note in opened.notes] == [
        "The metadata 'preprocess'", "The metadata 'model'", "The metadata 'product'"
    ]  # fmt: skip
    assert (opened.artifact.model, opened.artifact.product) == ({"name": "their"}, "")


def test_logits_that_are_not_finite_are_refused(
    make_file: Callable[..., Path], many: DataSet, tmp_path: Path
) -> None:
    def broken(net: Any) -> None:
        net.head.bias[1] = float("nan")

    path = make_file("nan", broken)
    with pytest.raises(ImfDeployError, match="not finite on the validation images"):
        calibrate(path, many, CONFIG, tmp_path)


def test_the_command_takes_the_name(
    foreign: Path, preprocess: Path, many: DataSet, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    behind_logits(foreign, [helper.make_node("Neg", [PRODUCED], ["reversed"])], ["reversed", PRODUCED])
    options = ("--preprocess", preprocess, "--data", many.config["data"], "--images", 30, "--keep-int8")
    done = cli("calibrate", foreign, *options, "--output", tmp_path / "out")
    assert done.code == 2
    assert "--logits" in done.lines[-1]
    done = cli("calibrate", foreign, *options, "--output", tmp_path / "out", "--logits", PRODUCED)
    assert done.code == 0, done.err


def test_rows_of_a_batch_are_the_images_one_by_one(foreign: Path, preprocess: Path, many: DataSet) -> None:
    model = open_float_model(foreign, preprocess)
    logits = file_logits(foreign, model, many.validation)
    for index in (0, 40, 89):
        one = file_logits(foreign, model, many.validation.subset(torch.tensor([index])))
        np.testing.assert_allclose(one[0], logits[index], rtol=1e-4, atol=1e-5)


def reversed_rows(net: Any) -> None:
    net.head.weight.copy_(net.head.weight.flip(0))
    net.head.bias.copy_(net.head.bias.flip(0))


def test_classes_in_another_order_are_warned_of(
    make_file: Callable[..., Path], preprocess: Path, many: DataSet, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The cause is looked for in foreign files; of a file with a record the accuracy alone is judged."""
    ours = make_file("reversed", reversed_rows)
    theirs = tmp_path / "their.onnx"
    theirs.write_bytes(ours.read_bytes())
    made = calibrate(theirs, many, CONFIG, tmp_path / "theirs", preprocess)
    told = made.calibration.doubt
    assert "not clearly better than chance" in told
    assert "reverse order" in told
    assert f"Warning: {theirs} in float: {told}" in caplog.text
    told = calibrate(ours, many, CONFIG, tmp_path / "ours").calibration.doubt
    assert "not clearly better than chance" in told
    assert "order" not in told


def test_other_preprocessing_is_warned_of(foreign: Path, many: DataSet, tmp_path: Path) -> None:
    wrong = asdict(many.preprocess) | {"mean": [0] * 3, "std": [1e4] * 3}
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    made = calibrate(foreign, many, CONFIG, tmp_path / "out", tmp_path / "wrong.json")
    assert scores(made)["float_accuracy"] < 0.85
    assert "but with pixels" in made.calibration.doubt


def test_an_accurate_file_is_not_warned_of(whole: Path, many: DataSet, tmp_path: Path) -> None:
    assert calibrate(whole, many, CONFIG, tmp_path).calibration.doubt == ""


def test_a_file_for_one_image_at_a_time_is_tried_in_other_ways_too(
    make_file: Callable[..., Path], preprocess: Path, many: DataSet, tmp_path: Path
) -> None:
    model = onnx.load(make_file("reversed", reversed_rows))
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "one.onnx")
    made = calibrate(tmp_path / "one.onnx", many, CONFIG, tmp_path / "out", preprocess)
    assert "reverse order" in made.calibration.doubt


@pytest.mark.parametrize(
    ("nodes", "constants", "told"),
    [
        (
            [
                helper.make_node("ReduceMean", [PRODUCED], ["batch_mean"], axes=[0], keepdims=1),
                helper.make_node("Sub", [PRODUCED, "batch_mean"], ["y"]),
            ],
            {"batch_axis": [0]},
            "answers differently for an image alone",
        ),
        (
            [helper.make_node("Dropout", [PRODUCED, "ratio", "training"], ["y"])],
            {"ratio": np.float32(0.5), "training": np.bool_(True)},
            "answers differently in every run",
        ),
    ],
    ids=["batch norm", "dropout"],
)
def test_files_in_training_mode_are_refused(
    foreign: Path, preprocess: Path, nodes: list[Any], constants: dict[str, Any], told: str
) -> None:
    behind_logits(foreign, nodes, ["y"], **constants)
    with pytest.raises(ImfDeployError, match=f"{told}.*evaluation mode"):
        open_float_model(foreign, preprocess)


@pytest.mark.parametrize(
    ("kind", "told"), [(TensorProto.BFLOAT16, "is bf16"), (TensorProto.DOUBLE, "is float64")]
)
def test_other_floats_are_refused_by_name(tmp_path: Path, preprocess: Path, kind: int, told: str) -> None:
    ends = [helper.make_tensor_value_info(name, kind, ["n", 3]) for name in "xy"]
    weight = helper.make_tensor("w", kind, (3, 3), np.ones(9))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight]
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(UsageError, match=told):
        open_float_model(path, preprocess)


def test_dynamic_int8_is_refused_by_name(foreign: Path, preprocess: Path, tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(foreign, tmp_path / "dynamic.onnx")
    with pytest.raises(UsageError, match=r"already quantised: int8 \(dynamic\)"):
        open_float_model(tmp_path / "dynamic.onnx", preprocess)


def test_a_batch_of_one_that_is_baked_in(
    foreign: Path, preprocess: Path, many: DataSet, tmp_path: Path, plain: dict[str, Any]
) -> None:
    """As exporters write it that trace a reshape at batch 1; the input is still declared free."""
    behind_logits(foreign, [helper.make_node("Reshape", [PRODUCED, "one_row"], ["y"])], ["y"], one_row=[1, 3])
    model = open_float_model(foreign, preprocess)
    assert not model.free_batch
    assert any("one image at a time" in note for note in model.notes)
    made = calibrate(foreign, many, CONFIG, tmp_path / "out", preprocess)
    assert scores(made) == pytest.approx(plain, abs=1e-3)
