"""Tiny real files: an ONNX classifier, and engines built from it without a GPU."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def tiny_onnx(
    path: Path, batch: int | str = "batch", side: int | str = 8, kind: int = TensorProto.FLOAT
) -> Path:
    """Write conv -> relu -> mean -> flatten, ``[N, 3, S, S] -> [N, 4]``."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(dtype)
    nodes = [
        helper.make_node("Conv", ["images", "weight"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", kind, [batch, 3, side, side])],
        [helper.make_tensor_value_info("logits", kind, [batch, 4])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return path


def outside_onnx(folder: Path, how: str) -> Path:
    """Write that classifier with its weight outside its own folder: ``../`` or behind a ``link``."""
    inside = folder / "model"
    inside.mkdir()
    path = tiny_onnx(inside / "tiny.onnx")
    model = onnx.load(path)
    weight = model.graph.initializer[0]
    (folder / "outside.bin").write_bytes(weight.raw_data)
    (inside / "link.bin").symlink_to(folder / "outside.bin")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", {"../": "../outside.bin", "link": "link.bin"}[how]
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def make_outside() -> Callable[[Path, str], Path]:
    """The function that writes a classifier whose weight lies outside its folder."""
    return outside_onnx


MakeOnnx = Callable[..., Path]


@pytest.fixture
def make_onnx() -> MakeOnnx:
    """The function that writes a tiny classifier."""
    return tiny_onnx


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """A tiny classifier with a free batch size."""
    return tiny_onnx(tmp_path / "tiny.onnx")


def build_engine(source: Path, *, portable: bool) -> bytes:
    """Build a TensorRT-RTX engine for batches of 1 to 4; for SM86 alone unless portable."""
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.Severity.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(source.read_bytes())
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("images", (1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))
    config.add_optimization_profile(profile)
    if not portable:
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    return bytes(builder.build_serialized_network(network, config))


@pytest.fixture(scope="session")
def engine_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real engine for SM86."""
    return build_engine(tiny_onnx(tmp_path_factory.mktemp("engine") / "tiny.onnx"), portable=False)


@pytest.fixture(scope="session")
def portable_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real engine for any RTX GPU from Ampere on."""
    return build_engine(tiny_onnx(tmp_path_factory.mktemp("engine") / "tiny.onnx"), portable=True)
