"""Rounding by inputs and equalised channels, on the trained network and with planted faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.calib.equalise import equalise
from imf_deploy.calib.layer_inputs import LayerInputs, measure_inputs
from imf_deploy.calib.model import FloatModel, open_float_model
from imf_deploy.calib.quantize import bounded_weights, quantize
from imf_deploy.calib.ranges import measure_ranges
from imf_deploy.calib.rounding import round_layers
from imf_deploy.calib.score import content_logits, file_logits
from imf_deploy.calib.steps import Form, improve
from imf_deploy.data import DataSet
from imf_deploy.portability.pairs import can_saturate
from imf_deploy.portability.session import cpu_session
from imf_deploy.settings import QuantizeSettings

BEST = QuantizeSettings(images=60, effort="best")


def divergence(model: FloatModel, content: bytes, many: DataSet) -> float:
    reference = file_logits(model.artifact.path, model, many.test)
    answers = content_logits(content, model, many.test)
    return float(many.preprocess.task.divergence(answers, reference).mean())


@pytest.fixture(scope="module")
def inputs(model: FloatModel, many: DataSet) -> list[LayerInputs]:
    return measure_inputs(model, many.train)


def test_inputs_give_the_mean_output_of_each_layer(
    model: FloatModel, inputs: list[LayerInputs], many: DataSet
) -> None:
    pixels = many.preprocess.normalize(many.train.fetch(torch.arange(len(many.train)))).numpy()
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model.proto)
    names = [layer.node.output[0] for layer in inputs]
    assert [layer.node.op_type for layer in inputs] == ["Conv", "Conv", "Conv", "Gemm"]
    known = {value.name: value for value in exposed.graph.value_info}
    exposed.graph.output.extend(known[name] for name in names if name in known)
    found = cpu_session(exposed.SerializeToString()).run(names, {model.input: pixels})
    for layer, values in zip(inputs, found, strict=True):
        np.testing.assert_array_equal(layer.from_matrix(layer.matrix()), layer.weights)
        expected = np.einsum("gok,gk->go", layer.matrix(), layer.mean).reshape(-1)
        bias = numpy_helper.to_array(
            next(t for t in model.proto.graph.initializer if t.name == layer.node.input[2])
        )
        axes = tuple(axis for axis in range(values.ndim) if axis != 1)
        np.testing.assert_allclose(expected + bias, values.mean(axes), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bounded", [True, False])
def test_rounding_by_inputs_changes_outputs_less(
    model: FloatModel, inputs: list[LayerInputs], bounded: bool
) -> None:
    scales = bounded_weights(model) if bounded else {}
    rounding = round_layers(inputs, scales)
    for layer in inputs:
        made, matrix = rounding[layer.node.name], layer.matrix()[0]
        steps = np.broadcast_to(made.scales, len(matrix)).astype(np.float64)[:, None]
        integers = replace(layer, weights=made.weights).matrix()[0] / steps
        np.testing.assert_allclose(integers, np.rint(integers), atol=1e-3)
        assert np.abs(integers).max() <= 127.01
        if bounded:
            assert not can_saturate(np.rint(integers).astype(np.int8)).any()
        nearest = np.clip(np.rint(matrix / steps), -127, 127)
        assert layer.covariance is not None

        def harm(rounded: np.ndarray, layer: LayerInputs = layer, steps: np.ndarray = steps) -> float:
            error = layer.matrix()[0] - rounded * steps
            return float(np.einsum("ok,kl,ol->", error, layer.covariance[0], error))  # type: ignore[index]

        assert harm(integers) < harm(nearest)


def test_files_of_rounded_weights_answer_more_like_the_float_model(
    model: FloatModel, inputs: list[LayerInputs], many: DataSet
) -> None:
    ranges = measure_ranges(model, many.train, "minmax")
    rounding = round_layers(inputs, bounded_weights(model))
    contents = [quantize(model, ranges, "onnxruntime-cpu", rounding=each) for each in (None, rounding)]
    before, after = (divergence(model, content, many) for content in contents)
    assert after < before
    # Layers in float keep their own weights and biases.
    layer = model.layers[2]
    written = onnx.load_from_string(
        quantize(model, ranges, "onnxruntime-cpu", (layer.name,), rounding=rounding)
    )
    own = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.proto.graph.initializer}
    node = next(node for node in written.graph.node if node.name == layer.name)
    for tensor in written.graph.initializer:
        if tensor.name in node.input[1:]:
            np.testing.assert_array_equal(numpy_helper.to_array(tensor), own[tensor.name])


@pytest.fixture(scope="module")
def uneven(make_file: Callable[..., Path]) -> FloatModel:
    """The trained network with channels of very different sizes, and the same answers."""

    def stretch(net: torch.nn.Module) -> None:
        factors = torch.logspace(-2, 2, 8)
        for first, second in ((net.first, net.second), (net.second, net.third), (net.third, net.head)):
            first.weight *= factors.view(-1, 1, 1, 1)
            first.bias *= factors
            second.weight /= factors.view(1, -1, *[1] * (second.weight.ndim - 2))

    return open_float_model(make_file("uneven", stretch))


def test_equalised_channels_give_the_same_answers_and_suit_int8(uneven: FloatModel, many: DataSet) -> None:
    equal = equalise(uneven, many.train)
    assert equal is not None
    pixels = many.preprocess.normalize(many.test.fetch(torch.arange(len(many.test)))).numpy()
    answers = [
        cpu_session(each.proto.SerializeToString()).run(None, {uneven.input: pixels})[0]
        for each in (uneven, equal)
    ]
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-3, atol=1e-4 * np.abs(answers[0]).max())
    contents = [
        quantize(each, measure_ranges(each, many.train, "minmax"), "onnxruntime-cpu")
        for each in (uneven, equal)
    ]
    before, after = (divergence(uneven, content, many) for content in contents)
    assert after < before / 10


def test_channels_are_enlarged_up_to_the_end_of_a_clip(model: FloatModel, many: DataSet) -> None:
    """ReLU6 behind the first layer, most of whose channels use little of it."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    first = next(node for node in proto.graph.node if node.op_type == "Relu")
    largest = measure_ranges(model, many.train, "minmax")[first.output[0]][1]
    first.op_type = "Clip"
    ends = {"low": np.float32(0), "high": np.float32(3 * largest)}
    first.input.extend(ends)
    proto.graph.initializer.extend(numpy_helper.from_array(np.array(v), name) for name, v in ends.items())
    clipped = replace(model, proto=proto)
    equal = equalise(clipped, many.train)
    assert equal is not None
    pixels = many.preprocess.normalize(many.train.fetch(torch.arange(len(many.train)))).numpy()
    answers = [
        cpu_session(each.proto.SerializeToString()).run(None, {model.input: pixels})[0]
        for each in (clipped, equal)
    ]
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-3, atol=1e-4 * np.abs(answers[0]).max())
    reached = measure_ranges(equal, many.train, "minmax")[first.output[0]][1]
    assert largest * 1.2 < reached <= 3 * largest * 1.001


def test_each_step_is_kept_only_if_it_helps(uneven: FloatModel, many: DataSet) -> None:
    form = Form(uneven, measure_ranges(uneven, many.train, "minmax"), "minmax")
    better, steps = improve(form, many.train, many.validation, BEST)
    assert [step.name for step in steps] == ["ranges", "rounding", "equalisation"]
    assert all(step.kept == (step.after < step.before) for step in steps)
    assert steps[2].kept
    assert better.model is not uneven
    level = steps[0].before
    for step in steps:
        assert step.before == level
        level = step.after if step.kept else level
    assert level < steps[0].before / 10


def test_layer_normalization_takes_the_factors_of_the_layers_that_read_it(
    model: FloatModel, many: DataSet
) -> None:
    """Tokens of a transformer: one channel is a hundred times as large as the others."""
    random = np.random.default_rng(0)
    scale = np.ones(27, np.float32)
    scale[3] = 100.0
    first, second = (random.normal(0, 0.1, (27, 12)).astype(np.float32) for _ in "ab")
    first[3] /= 100.0
    second[3] /= 100.0
    nodes = [
        helper.make_node("Conv", [model.input, "patch"], ["map"], name="patch", strides=[4, 4]),
        helper.make_node("Reshape", ["map", "shape"], ["flat"], name="flat"),
        helper.make_node("Transpose", ["flat"], ["tokens"], name="tokens", perm=[0, 2, 1]),
        helper.make_node("LayerNormalization", ["tokens", "scale", "shift"], ["normal"], name="norm"),
        helper.make_node("MatMul", ["normal", "first"], ["query"], name="query"),
        helper.make_node("MatMul", ["normal", "second"], ["key"], name="key"),
        helper.make_node("Mul", ["query", "key"], ["product"], name="product"),
        helper.make_node("ReduceMean", ["product"], ["logits"], name="mean", axes=[1], keepdims=0),
    ]
    constants = {
        "patch": random.normal(0, 0.1, (27, 3, 4, 4)).astype(np.float32), "shape": np.array([0, 27, -1]),
        "scale": scale, "shift": random.normal(0, 0.1, 27).astype(np.float32),
        "first": first, "second": second,
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "tokens",
        [helper.make_tensor_value_info(model.input, TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 12])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    tokens = replace(model, proto=onnx.shape_inference.infer_shapes(made))
    equal = equalise(tokens, many.test)
    assert equal is not None
    written = {tensor.name: numpy_helper.to_array(tensor) for tensor in equal.proto.graph.initializer}
    norm = written["scale/norm"]
    assert norm.max() / np.median(norm) < 20
    pixels = many.preprocess.normalize(many.test.fetch(torch.arange(4))).numpy()
    before, after = (
        cpu_session(each.proto.SerializeToString()).run(None, {model.input: pixels})[0]
        for each in (tokens, equal)
    )
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-5)
