"""A small trained network as an ONNX file, whole or with planted faults, and the data it knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from tiny_onnx import save_record
from torch import Tensor, nn

from imf_deploy.calib.model import FloatModel, open_float_model
from imf_deploy.calib.ranges import Ranges, measure_ranges
from imf_deploy.data import DataSet, open_data
from imf_deploy.export.onnx_writer import export_onnx
from imf_deploy.settings import DataSettings

SIZE = 16
CHANNELS = 8


class Net(nn.Module):
    """Three convolutions with ReLU, a global mean, a linear layer: four layers to quantise."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.second = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1)
        self.third = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.head = nn.Linear(CHANNELS, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.first(images).relu()
        features = self.second(features).relu()
        features = self.third(features).relu()
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


class WideSums(Net):
    """The same network with two sums whose one result, 10,000 times as large as the rest, is not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("there", torch.full((1, CHANNELS, 1, 1), 1e4))
        self.register_buffer("back", torch.full((1, CHANNELS, 1, 1), -1e4))

    def forward(self, images: Tensor) -> Tensor:
        features = self.first(images).relu()
        features = (features + self.there) + self.back
        features = self.second(features).relu()
        features = self.third(features).relu()
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., Path]) -> DataSet:
    """3 classes with 40 training, 30 validation and 10 test pictures each."""
    folder = make_images(tmp_path_factory.mktemp("many") / "many", {"train": 40, "val": 30, "test": 10})
    return open_data(DataSettings(str(folder)))


@pytest.fixture(scope="session")
def trained(many: DataSet) -> dict[str, Tensor]:
    """Weights of a ``Net`` that knows the classes, without a wide margin."""
    torch.manual_seed(0)
    net = Net()
    images = many.preprocess.normalize(many.train.fetch(torch.arange(len(many.train))))
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(40):
        loss = nn.functional.cross_entropy(net(images), many.train.labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert (net(images).argmax(1) == many.train.labels).float().mean() > 0.95
    return net.state_dict()


Make = Callable[..., Path]
MakeOwn = Callable[[Path, nn.Module], Path]


@pytest.fixture(scope="session")
def write_onnx(many: DataSet) -> MakeOwn:
    """Write a network as float32 ONNX with its metadata and sidecar."""

    def write(path: Path, net: nn.Module) -> Path:
        metadata = {
            **many.preprocess.metadata(),
            "labels": json.dumps(many.preprocess.labels),
            "product": "plain",
            "precision": "fp32",
        }
        export_onnx(net.eval(), path, "fp32", SIZE, metadata)
        save_record(path, "net", many)
        return path

    return write


@pytest.fixture(scope="session")
def make_file(
    trained: dict[str, Tensor], write_onnx: MakeOwn, tmp_path_factory: pytest.TempPathFactory
) -> Make:
    """Write the trained network after a change; the same change is written once."""
    known: dict[str, Path] = {}

    def make(name: str, change: Callable[[Net], None] = lambda net: None) -> Path:
        if name not in known:
            net = Net()
            net.load_state_dict(trained)
            with torch.no_grad():
                change(net)
            known[name] = write_onnx(tmp_path_factory.mktemp(name) / "net-plain-fp32.onnx", net)
        return known[name]

    return make


def plant(layer: nn.Conv2d, reader: nn.Conv2d | nn.Linear) -> None:
    """Give a layer one channel that is always a million, which nobody reads: float does not mind."""
    layer.weight[0] = 0
    assert layer.bias is not None
    layer.bias[0] = 1e6
    reader.weight[:, 0] = 0


def _plant_second(net: Net) -> None:
    plant(net.second, net.third)


def _plant_all(net: Net) -> None:
    plant(net.first, net.second)
    plant(net.second, net.third)
    plant(net.third, net.head)


@pytest.fixture(scope="session")
def whole(make_file: Make) -> Path:
    """The trained network. Not to be changed."""
    return make_file("whole")


@pytest.fixture(scope="session")
def planted(make_file: Make) -> Path:
    """What passes between its second and third layer does not fit into 8 bits."""
    return make_file("planted", _plant_second)


@pytest.fixture(scope="session")
def hopeless(make_file: Make) -> Path:
    """Nothing that passes between its layers fits into 8 bits."""
    return make_file("hopeless", _plant_all)


@pytest.fixture(scope="session")
def wide_sums(
    trained: dict[str, Tensor], write_onnx: MakeOwn, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The trained network, with two sums whose values do not fit into 8 bits."""
    net = WideSums()
    net.load_state_dict(trained, strict=False)
    return write_onnx(tmp_path_factory.mktemp("sums") / "net-plain-fp32.onnx", net)


@pytest.fixture(scope="session")
def model(whole: Path) -> FloatModel:
    """The trained network, read."""
    return open_float_model(whole)


@pytest.fixture(scope="session")
def ranges(model: FloatModel, many: DataSet) -> Ranges:
    """Its ranges."""
    return measure_ranges(model, many.train, "minmax")


@pytest.fixture
def foreign(whole: Path, tmp_path: Path) -> Path:
    """The same network without a sidecar and without metadata."""
    proto = onnx.load(whole)
    del proto.metadata_props[:]
    (tmp_path / "theirs").mkdir()
    onnx.save(proto, tmp_path / "theirs" / "their.onnx")
    return tmp_path / "theirs" / "their.onnx"


@pytest.fixture
def make_net(trained: dict[str, Tensor]) -> Callable[[], nn.Module]:
    """Build the trained network."""

    def make() -> nn.Module:
        net = Net()
        net.load_state_dict(trained)
        return net.eval()

    return make
