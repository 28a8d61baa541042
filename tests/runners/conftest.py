"""Tiny real files: an ONNX classifier, and engines built from it without a GPU."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto
from tiny_onnx import tiny_onnx


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
