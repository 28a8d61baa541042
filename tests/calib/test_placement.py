"""Where Q/DQ stands in files for TensorRT, on a network with residual sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from imf_deploy.calib.graph_edits import GraphEdits
from imf_deploy.calib.model import FloatModel, open_float_model
from imf_deploy.calib.placement import Placement, Sums, clips_to_relu
from imf_deploy.calib.quantize import int8_metadata, quantize
from imf_deploy.calib.ranges import Ranges, measure_ranges
from imf_deploy.data import DataSet
from imf_deploy.export.engine_form import ENGINE_FLOATS
from imf_deploy.export.flavour import choose_flavour, import_tensorrt
from imf_deploy.export.tensorrt_writer import build_engine
from imf_deploy.runners.engine_facts import why_not_here
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.runners.tensorrt import TensorRTRunner
from imf_deploy.settings import BatchRange

SUMS = 3


class Residual(nn.Module):
    """Three residual sums: with the input of a block, with a second convolution, with a float product."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.same = (nn.Conv2d(n, 8, 3, padding=1) for n in (3, 8))
        self.down, self.side = nn.Conv2d(8, 12, 3, 2, 1), nn.Conv2d(8, 12, 1, 2)
        self.last = nn.Conv2d(12, 12, 3, padding=1)
        self.head = nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = nn.functional.relu6(self.stem(images))
        features = torch.relu(features + self.same(features))
        features = torch.relu(self.down(features) + self.side(features))
        features = torch.relu(self.last(features) + features * features.mean((2, 3), keepdim=True))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


@dataclass(frozen=True)
class Case:
    model: FloatModel
    ranges: Ranges


@pytest.fixture(scope="module")
def case(
    many: DataSet,
    write_onnx: Callable[[Path, nn.Module], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    torch.manual_seed(0)
    net = Residual()
    with torch.no_grad():
        net.stem.weight *= 20  # so that values reach the upper end of ReLU6
    path = write_onnx(tmp_path_factory.mktemp("residual") / "net-plain-fp32.onnx", net)
    model = open_float_model(path)
    return Case(model, measure_ranges(model, many.train, "minmax"))


def written(case: Case, sums: Sums, *, relu: bool = True) -> onnx.ModelProto:
    content = quantize(case.model, case.ranges, "tensorrt", placement=Placement(sums, relu))
    proto = onnx.load_from_string(content)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def logits(proto: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    found: np.ndarray = session.run(None, {"images": images})[0]
    return found


def images_of(case: Case, many: DataSet) -> np.ndarray:
    images: np.ndarray = case.model.preprocess.normalize(many.test.fetch(torch.arange(20))).numpy()
    return images


@pytest.mark.parametrize(("sums", "quantised"), [("shared", 1), ("skip", 3), ("both", 6)])
def test_inputs_of_residual_sums_are_quantised(case: Case, sums: Sums, quantised: int) -> None:
    proto = written(case, sums)
    edits = GraphEdits(proto)
    adds = [node for node in proto.graph.node if node.op_type == "Add"]
    assert len(adds) == SUMS
    assert sum(edits.is_dequantised(name) for node in adds for name in node.input) == quantised
    if sums == "skip":
        # The other input is the convolution that is fused with the sum.
        sources = [
            edits.producer(name) for node in adds for name in node.input if not edits.is_dequantised(name)
        ]
        assert [source.op_type for source in sources if source is not None] == ["Conv"] * SUMS


def test_a_new_pair_has_the_range_of_its_tensor(case: Case) -> None:
    proto = written(case, "skip")
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear":
            low, high = case.ranges[node.input[0]]
            assert values[node.input[1]] == pytest.approx(max(-low, high) / 127, rel=1e-5)
            assert values[node.input[2]].dtype == np.int8
            assert values[node.input[2]] == 0


def test_a_clip_that_the_range_repeats_becomes_a_relu(case: Case, many: DataSet) -> None:
    before, after = written(case, "skip", relu=False), written(case, "skip")
    counts = [Counter(node.op_type for node in proto.graph.node) for proto in (before, after)]
    assert [count["Clip"] for count in counts] == [1, 0]
    images = images_of(case, many)
    assert np.array_equal(logits(before, images), logits(after, images))


@pytest.mark.parametrize(
    ("scale", "high", "low", "read_by_float", "becomes"),
    [
        (6 / 127, 6.0, 0.0, False, "Relu"),
        (5.0 / 127, 6.0, 0.0, False, "Relu"),  # saturates earlier
        (6.5 / 127, 6.0, 0.0, False, "Clip"),  # 6 is not the largest level
        (6 / 127, 6.0, -1.0, False, "Clip"),
        (6 / 127, 6.0, 0.0, True, "Clip"),
    ],
)
def test_a_clip_that_changes_something_stays(
    scale: float, high: float, low: float, read_by_float: bool, becomes: str
) -> None:
    nodes = [
        helper.make_node("Clip", ["images", "low", "high"], ["clipped"]),
        helper.make_node("QuantizeLinear", ["clipped", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("Add", ["dq", "clipped" if read_by_float else "dq"], ["logits"]),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 500]) for n in ("images", "logits")]
    weights = {
        "low": np.float32(low),
        "high": np.float32(high),
        "scale": np.float32(scale),
        "zero": np.int8(0),
    }
    graph = helper.make_graph(
        nodes, "clip", values[:1], values[1:],
        [numpy_helper.from_array(np.array(value), name) for name, value in weights.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    images = np.linspace(-2, 12, 500, dtype=np.float32)[None]
    before = logits(proto, images)
    assert clips_to_relu(proto) == (becomes == "Relu")
    assert proto.graph.node[0].op_type == becomes
    assert np.array_equal(logits(proto, images), before)


def test_layers_in_float_leave_their_sums_in_float(case: Case) -> None:
    convolutions = [layer.name for layer in case.model.layers if layer.op_type == "Conv"]
    content = quantize(case.model, case.ranges, "tensorrt", convolutions)
    proto = onnx.load_from_string(content)
    edits = GraphEdits(proto)
    adds = [node for node in proto.graph.node if node.op_type == "Add"]
    assert not any(edits.is_dequantised(name) for node in adds for name in node.input)


@pytest.mark.parametrize("sums", ["shared", "skip", "both"])
def test_tensorrt_builds_every_placement(case: Case, sums: Sums, tmp_path: Path) -> None:
    import_tensorrt("rtx")
    path = tmp_path / "int8.onnx"
    onnx.save(written(case, sums), path)
    assert build_engine(path, tmp_path / "int8.engine", "rtx", BatchRange(1, 2, 4)).layers > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("floats", ["fp16", "fp32"])
def test_an_int8_engine_answers_as_its_file(case: Case, many: DataSet, tmp_path: Path, floats: str) -> None:
    flavour = choose_flavour("auto").flavour
    if not flavour:
        pytest.skip("no TensorRT is installed")
    path, engine = tmp_path / "int8.onnx", tmp_path / "int8.engine"
    metadata = int8_metadata(case.model, {ENGINE_FLOATS: floats})
    path.write_bytes(quantize(case.model, case.ranges, "tensorrt", metadata=metadata))
    build_engine(path, engine, flavour, BatchRange(1, 20, 20))
    if reason := why_not_here(engine):
        pytest.skip(reason)
    images = images_of(case, many)
    with OnnxRuntimeRunner(path, exact_sums=True) as float_runner, TensorRTRunner(engine) as runner:
        expected, answers = float_runner.infer(images), runner.infer(images)
    assert np.abs(answers - expected).max() < 0.1 * np.abs(expected).max()
