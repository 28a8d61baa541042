from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from imf_deploy.calib import quantize as module
from imf_deploy.calib.float_layers import integer_layers, running_operators
from imf_deploy.calib.model import FloatModel, open_float_model
from imf_deploy.calib.quantize import layers_of, quantize
from imf_deploy.calib.ranges import Ranges, measure_ranges
from imf_deploy.calib.score import content_logits, file_logits, score
from imf_deploy.data import DataSet
from imf_deploy.export.flavour import import_tensorrt
from imf_deploy.export.tensorrt_writer import build_engine
from imf_deploy.portability.graph import open_session_graph
from imf_deploy.portability.pairs import LARGEST_SUM, can_saturate, conv_matrix, in_pairs
from imf_deploy.settings import BatchRange
from imf_deploy.settings.quantize import Target

LAYERS = 4


def written(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "int8.onnx"
    path.write_bytes(content)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    return path


def initializers(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def test_form_for_the_cpu(model: FloatModel, ranges: Ranges, tmp_path: Path) -> None:
    path = written(quantize(model, ranges, "onnxruntime-cpu"), tmp_path)
    proto = onnx.load(path)
    values = initializers(proto)
    zeros = [values[n.input[2]] for n in proto.graph.node if n.op_type == "QuantizeLinear"]
    assert {zero.dtype for zero in zeros} == {np.dtype(np.uint8)}
    weights = [v for v in values.values() if v.dtype == np.int8 and v.ndim > 1]
    assert len(weights) == LAYERS
    # One scale for each output channel, as small as the bound on pairs allows.
    matrices = [conv_matrix(weight) if weight.ndim == 4 else weight for weight in weights]
    assert not any(can_saturate(matrix).any() for matrix in matrices)
    for matrix in matrices:
        largest = np.abs(in_pairs(matrix).astype(int)).sum(2).max(1)
        assert ((largest >= LARGEST_SUM - 2) | (np.abs(matrix).max(1) >= 126)).all()
    operators = Counter(node.op_type for node in proto.graph.node)
    assert "Relu" not in operators  # it vanished into the ranges
    assert integer_layers(running_operators(path)) == LAYERS
    # The logits are not rounded to 256 steps.
    assert proto.graph.output[0].name in next(n.output for n in proto.graph.node if n.op_type == "Gemm")


def test_processors_with_vnni_get_all_8_bits(model: FloatModel, ranges: Ranges, tmp_path: Path) -> None:
    path = written(quantize(model, ranges, "onnxruntime-cpu", cpus="vnni"), tmp_path)
    weights = [v for v in initializers(onnx.load(path)).values() if v.dtype == np.int8 and v.ndim > 1]
    assert all(np.abs(weight).reshape(len(weight), -1).max(1).min() >= 126 for weight in weights)
    assert integer_layers(running_operators(path)) == LAYERS
    assert open_session_graph(path).saturating


def foreign_model(
    path: Path, nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], like: Path
) -> FloatModel:
    """Write a graph from ``x`` to ``y`` with the metadata of another file, and read it."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(proto, {p.key: p.value for p in onnx.load(like).metadata_props})
    onnx.save(proto, path)
    return open_float_model(path)


def sharing_model(path: Path, like: Path) -> FloatModel:
    """One tensor, read by rows in one layer and by columns in the other: two orders of pairs."""
    random = np.random.default_rng(0)
    shared = random.normal(0, 1, (8, 8))
    first, last = random.normal(0, 1, (3, 8)), random.normal(0, 1, (8, 3))
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["a"]),
        helper.make_node("Flatten", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "first"], ["c"]),
        helper.make_node("Gemm", ["c", "shared"], ["d"]),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "shared"], ["f"], transB=1),
        helper.make_node("Gemm", ["f", "last"], ["y"]),
    ]
    return foreign_model(path, nodes, {"shared": shared, "first": first, "last": last}, like)


def test_weights_that_two_layers_share_are_bounded_for_both(
    many: DataSet, whole: Path, tmp_path: Path
) -> None:
    model = sharing_model(tmp_path / "shared.onnx", whole)
    found = measure_ranges(model, many.train, "minmax")
    path = written(quantize(model, found, "onnxruntime-cpu"), tmp_path)
    assert integer_layers(running_operators(path)) == LAYERS
    assert not open_session_graph(path).saturating
    reference = file_logits(model.artifact.path, model, many.validation)
    logits = file_logits(path, model, many.validation)
    assert np.abs(logits - reference).max() < 0.1 * np.abs(reference).max()


def test_form_for_tensorrt(model: FloatModel, ranges: Ranges, tmp_path: Path) -> None:
    proto = onnx.load(written(quantize(model, ranges, "tensorrt"), tmp_path))
    values = initializers(proto)
    zeros = [
        values[node.input[2]]
        for node in proto.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    ]
    assert len(zeros) == 3 * LAYERS  # a pair before every layer, and a DQ for its weights
    assert {zero.dtype for zero in zeros} == {np.dtype(np.int8)}
    assert not any(zero.any() for zero in zeros)
    assert not [value for value in values.values() if value.dtype == np.int32]
    assert {v.dtype for n, v in values.items() if n.endswith("scale")} == {np.dtype(np.float32)}


@pytest.mark.parametrize("target", get_args(Target))
def test_both_answer_like_the_float_model(
    model: FloatModel, ranges: Ranges, many: DataSet, target: Target
) -> None:
    reference = file_logits(model.artifact.path, model, many.validation)
    logits = content_logits(quantize(model, ranges, target), model, many.validation)
    result = score(logits, reference, many.validation.labels.numpy())
    assert result.agreement >= 0.97
    assert 0 < result.mse < 0.01 * float((reference**2).mean())


@pytest.mark.parametrize("target", get_args(Target))
def test_same_bytes(model: FloatModel, ranges: Ranges, target: Target) -> None:
    before = model.proto.SerializeToString(deterministic=True)
    assert quantize(model, ranges, target) == quantize(model, ranges, target)
    assert model.proto.SerializeToString(deterministic=True) == before


def test_metadata_is_carried_over(model: FloatModel, ranges: Ranges) -> None:
    proto = onnx.load_from_string(quantize(model, ranges, "tensorrt"))
    assert {p.key: p.value for p in proto.metadata_props} == model.metadata | {"precision": "int8"}


@pytest.mark.parametrize("target", get_args(Target))
@pytest.mark.parametrize("index", range(LAYERS))
def test_an_excluded_layer_is_float_in_a_default_session(
    model: FloatModel, ranges: Ranges, many: DataSet, tmp_path: Path, target: Target, index: int
) -> None:
    name = model.layers[index].name
    path = written(quantize(model, ranges, target, [name]), tmp_path)
    node = next(node for node in onnx.load(path).graph.node if node.name == name)
    weights = initializers(onnx.load(path))[node.input[1]]
    original = next(node for node in model.proto.graph.node if node.name == name).input[1]
    assert np.array_equal(weights, initializers(model.proto)[original])
    if target == "onnxruntime-cpu":
        assert integer_layers(running_operators(path)) == LAYERS - 1
    # The identity that keeps it in float changes nothing.
    result = file_logits(path, model, many.validation)
    reference = file_logits(model.artifact.path, model, many.validation)
    assert np.abs(result - reference).max() < 0.1 * np.abs(reference).max()


def test_without_the_identity_a_default_session_quantises_it_again(
    model: FloatModel, ranges: Ranges, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, onnxruntime has changed, and ``keep_in_float`` may go."""
    monkeypatch.setattr(module, "keep_in_float", lambda proto, layers: None)
    path = written(quantize(model, ranges, "onnxruntime-cpu", [model.layers[1].name]), tmp_path)
    assert integer_layers(running_operators(path)) == LAYERS


def test_one_layer_alone(model: FloatModel, ranges: Ranges, tmp_path: Path) -> None:
    content = quantize(model, ranges, "onnxruntime-cpu", only=model.layers[2])
    assert integer_layers(running_operators(written(content, tmp_path))) == 1


@pytest.mark.parametrize("capabilities", [("86",), ("89",), ()])
@pytest.mark.parametrize("excluded", [0, 1])
def test_engines_build(
    model: FloatModel, ranges: Ranges, tmp_path: Path, capabilities: tuple[str, ...], excluded: int
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 alone")
    import_tensorrt("rtx")
    names = [layer.name for layer in model.layers[:excluded]]
    path = written(quantize(model, ranges, "tensorrt", names), tmp_path)
    info = build_engine(path, tmp_path / "a.engine", "rtx", BatchRange(1, 2, 4), capabilities)
    assert info.onnx.precision == "int8"
    assert [target for target in capabilities if target not in info.header.targets] == []
    assert info.path.stat().st_size > 1000


def test_what_old_exporters_leave_is_folded_first(many: DataSet, whole: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tensors = {
        "w": random.normal(0, 1, (8, 3, 3, 3)),
        "scale": random.uniform(0.5, 2, 8),
        "shift": random.normal(0, 1, 8),
        "mean": random.normal(0, 1, 8),
        "variance": random.uniform(0.5, 2, 8),
    }
    head = random.normal(0, 1, (8, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            # Old exporters give no names, and put weights behind nodes.
            helper.make_node("Constant", [], ["head"], value=numpy_helper.from_array(head)),
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "variance"], ["b"]),
            helper.make_node("Relu", ["b"], ["c"]),
            helper.make_node("GlobalAveragePool", ["c"], ["d"]),
            helper.make_node("Flatten", ["d"], ["e"]),
            helper.make_node("Gemm", ["e", "head"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(proto, {p.key: p.value for p in onnx.load(whole).metadata_props})
    path = tmp_path / "foreign.onnx"
    onnx.save(proto, path)
    model = open_float_model(path)
    assert [layer.op_type for layer in layers_of(model, "tensorrt")] == ["Conv", "Gemm"]
    assert "BatchNormalization" not in {node.op_type for node in model.proto.graph.node}
    reference = file_logits(path, model, many.validation)
    found = measure_ranges(model, many.train, "minmax")
    for target in get_args(Target):
        logits = content_logits(quantize(model, found, target), model, many.validation)
        assert np.abs(logits - reference).max() < 0.05 * np.abs(reference).max()


def test_a_residual_network_is_quantised_whole(
    write_onnx: Callable[..., Path], many: DataSet, tmp_path: Path
) -> None:
    class Residual(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 3, padding=1)
            self.head = torch.nn.Linear(8, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = self.stem(images).relu()
            logits: torch.Tensor = self.head((features + self.inner(features)).relu().mean((2, 3)))
            return logits

    torch.manual_seed(0)
    model = open_float_model(write_onnx(tmp_path / "residual.onnx", Residual()))
    found = measure_ranges(model, many.train, "minmax")
    path = written(quantize(model, found, "onnxruntime-cpu"), tmp_path)
    running = running_operators(path)
    assert integer_layers(running) == 3
    assert running["QLinearAdd"] == 1
    (add,) = (layer for layer in layers_of(model, "onnxruntime-cpu") if layer.op_type == "Add")
    left = running_operators(written(quantize(model, found, "onnxruntime-cpu", [add.name]), tmp_path))
    assert (integer_layers(left), left.get("QLinearAdd", 0), left["Add"]) == (3, 0, 1)
    assert add not in layers_of(model, "tensorrt")
    reference = file_logits(model.artifact.path, model, many.validation)
    for target in get_args(Target):
        logits = content_logits(quantize(model, found, target), model, many.validation)
        assert np.abs(logits - reference).max() < 0.1 * max(float(np.abs(reference).max()), 0.1)


TAILS = [
    ["Conv", "GlobalAveragePool", "Flatten"],
    ["Conv", "Relu", "GlobalAveragePool", "Flatten"],
    ["GlobalAveragePool", "Conv", "Flatten"],
    ["GlobalAveragePool", "Conv", "Relu", "Flatten"],
    ["GlobalAveragePool", "Conv", "Flatten", "Softmax"],
]


def tail_model(tail: list[str], path: Path, like: Path) -> FloatModel:
    """A network that ends in some operators."""
    random = np.random.default_rng(0)
    tensors = {"w": random.normal(0, 1, (8, 3, 3, 3)), "b": random.normal(0, 1, 8)}
    tensors |= {"last.w": random.normal(0, 1, (3, 8, 1, 1)), "last.b": random.normal(0, 1, 3)}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["t"]), helper.make_node("Relu", ["t"], ["t0"])]
    for index, op_type in enumerate(tail):
        extra = ["last.w", "last.b"] if op_type == "Conv" else []
        nodes.append(helper.make_node(op_type, [f"t{index}", *extra], [f"t{index + 1}"]))
    nodes[-1].output[0] = "y"
    return foreign_model(path, nodes, tensors, like)


@pytest.mark.parametrize("target", get_args(Target))
@pytest.mark.parametrize("tail", TAILS, ids="-".join)
def test_answers_stay_float_whatever_computes_them(
    tail: list[str], target: Target, many: DataSet, whole: Path, tmp_path: Path
) -> None:
    path = tmp_path / "foreign.onnx"
    model = tail_model(tail, path, whole)
    found = measure_ranges(model, many.train, "minmax")
    made = onnx.load(written(quantize(model, found, target), tmp_path))
    producers = {name: node for node in made.graph.node for name in node.output}
    node = producers["y"]
    while node.op_type in ("Flatten", "Relu", "Softmax"):
        node = producers[node.input[0]]
    assert node.op_type in ("Conv", "GlobalAveragePool")
    if target == "onnxruntime-cpu":
        # Its operands are in 8 bits all the same.
        assert producers[node.input[0]].op_type == "DequantizeLinear"
    reference = file_logits(path, model, many.validation)
    logits = file_logits(tmp_path / "int8.onnx", model, many.validation)
    assert np.abs(logits - reference).max() < 0.05 * np.abs(reference).max()


def test_an_output_that_a_layer_reads_is_quantised(many: DataSet, whole: Path, tmp_path: Path) -> None:
    proto = onnx.load(whole)
    inner = next(node for node in proto.graph.node if node.op_type == "Relu").output[0]
    proto.graph.output.append(helper.make_tensor_value_info(inner, TensorProto.FLOAT, ["n", 8, 16, 16]))
    path = tmp_path / "two.onnx"
    onnx.save(proto, path)
    model = open_float_model(path)
    content = quantize(model, measure_ranges(model, many.train, "minmax"), "onnxruntime-cpu")
    assert integer_layers(running_operators(written(content, tmp_path))) == LAYERS


def test_files_answer_the_same_without_vnni(
    model: FloatModel,
    ranges: Ranges,
    many: DataSet,
    whole: Path,
    tmp_path: Path,
    run_on: Callable[[str, Path], dict[str, np.ndarray]],
) -> None:
    """By the kernels of ONNX Runtime for such a processor, in one emulated process."""
    folder = tmp_path / "files"
    folder.mkdir()
    foreign = {"shared": sharing_model(tmp_path / "shared.onnx", whole)}
    foreign |= {"-".join(tail): tail_model(tail, tmp_path / "tail.onnx", whole) for tail in TAILS}
    contents = {"whole": quantize(model, ranges, "onnxruntime-cpu")}
    for layer in model.layers:
        contents[f"without {layer.name}"] = quantize(model, ranges, "onnxruntime-cpu", [layer.name])
    for name, other in foreign.items():
        contents[name] = quantize(other, measure_ranges(other, many.train, "minmax"), "onnxruntime-cpu")
    images = many.preprocess.normalize(many.validation.fetch(torch.arange(len(many.validation)))).numpy()
    for number, content in enumerate(contents.values()):
        (folder / f"{number:02}.onnx").write_bytes(content)
        np.save(folder / f"{number:02}.npy", np.ascontiguousarray(images))
    here, there = run_on("here", folder), run_on("haswell", folder)
    assert len(here) == len(contents) == LAYERS + 2 + len(TAILS)
    for name, logits in here.items():
        scale = float(np.abs(logits).max())
        np.testing.assert_allclose(there[name], logits, rtol=1e-4, atol=1e-4 * scale, err_msg=name)
