"""INT8 files of every family of networks: no sum of any layer can saturate, on any processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import nn

from imf_deploy.calib.model import open_float_model
from imf_deploy.calib.quantize import quantize
from imf_deploy.calib.ranges import measure_ranges
from imf_deploy.data import DataSet
from imf_deploy.models import ModelSpec, build_model
from imf_deploy.portability.graph import open_session_graph
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner

RunOn = Callable[[str, Path], dict[str, npt.NDArray[Any]]]
FAMILIES = {
    "MobileNetV2": "timm:mobilenetv2_035",
    "MobileNetV3": "timm:mobilenetv3_small_050",
    "ResNet": "resnet8",
    "ResNet, wide": "timm:resnet10t",
    "ShuffleNetV2": "shufflenet_v2_x0_5",
    "EfficientNet-Lite": "timm:tf_efficientnet_lite0",
    "RegNet": "timm:regnetx_002",
    "MNASNet": "mnasnet0_5",
    "VGG": "cifar:vgg8",
    "ConvNeXt": "timm:convnext_atto",
    "GhostNet": "timm:ghostnet_050",
}
SIZE = 16


@torch.no_grad()
def varied(network: nn.Module) -> nn.Module:
    """Give batch norms the statistics of noise, and weights outliers, as training does."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            heavy = torch.rand(module.weight.shape, generator=generator) < 0.02
            module.weight[heavy] *= 4
    network.train()
    for _ in range(3):
        network(torch.randn(8, 3, SIZE, SIZE, generator=generator))
    return network.eval()


@pytest.fixture(scope="module")
def files(
    many: DataSet, write_onnx: Callable[[Path, nn.Module], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An INT8 file of each family, with every tensor that a session computes as an output."""
    folder = tmp_path_factory.mktemp("families")
    images = many.preprocess.normalize(many.test.fetch(torch.arange(2))).numpy()
    for family, name in FAMILIES.items():
        torch.manual_seed(0)
        network = varied(build_model(ModelSpec.for_images(name, 3, SIZE)))
        model = open_float_model(write_onnx(tmp_path_factory.mktemp("float") / "a-fp32.onnx", network))
        ranges = measure_ranges(model, many.train.subset(torch.arange(16)), "minmax")
        path = folder / f"{family}.onnx"
        path.write_bytes(quantize(model, ranges, "onnxruntime-cpu"))
        session = open_session_graph(path)
        assert not session.saturating
        assert not session.unknown
        graph = session.model.graph
        known = {value.name for value in graph.output}
        computed = [name for node in graph.node for name in node.output if name and name not in known]
        graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in computed)
        onnx.save(session.model, path)
        np.save(path.with_suffix(".npy"), np.ascontiguousarray(images))
    return folder


@pytest.fixture(scope="module")
def there(run_on: RunOn, files: Path) -> dict[str, npt.NDArray[Any]]:
    """What an emulated processor without VNNI computes."""
    return run_on("haswell", files)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_is_the_same_without_vnni(
    files: Path, there: dict[str, npt.NDArray[Any]], family: str
) -> None:
    path = files / f"{family}.onnx"
    integers = 0
    with OnnxRuntimeRunner(path, threads=1) as runner:
        session = runner._session
        given = {"images": np.load(path.with_suffix(".npy"))}
        names = [value.name for value in session.get_outputs()]
        for name, here in zip(names, session.run(None, given), strict=True):
            if here.dtype in (np.uint8, np.int8, np.int32):
                integers += 1
                assert np.array_equal(here, there[f"{family}/{name}"]), name
            else:  # sums of floats in another order
                assert np.allclose(here, there[f"{family}/{name}"], rtol=1e-4, atol=1e-5), name
    assert integers > 5
