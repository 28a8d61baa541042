"""Students of every family pass all stages: distilled for an epoch, stripped, exported, verified.

Their INT8 files compute the same integers on a processor without VNNI, tensor by tensor.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from imf_deploy.calib.model import open_float_model
from imf_deploy.calib.quantize import quantize
from imf_deploy.calib.ranges import measure_ranges
from imf_deploy.data import DataSet, open_data
from imf_deploy.distillation.distill import distill, load_distilled
from imf_deploy.export.stage import export
from imf_deploy.method.products import load_product
from imf_deploy.portability.graph import open_session_graph
from imf_deploy.settings import (
    DataSettings,
    DistillSettings,
    Gate,
    GivenTeacher,
    TeacherSettings,
    TrainingSettings,
)
from imf_deploy.stripping.stage import strip
from imf_deploy.teaching.teacher import Teacher, find_teacher, train_teacher
from imf_deploy.verification.stage import evaluate_product, verify

SHORT = TrainingSettings(epochs=1, batch_size=8, lr=0.01, device="cpu")
FAMILIES = {
    "MobileNetV2": "timm:mobilenetv2_035",
    "MobileNetV3": "timm:mobilenetv3_small_050",
    "ResNet": "timm:resnet10t",
    "ShuffleNetV2": "shufflenet_v2_x0_5",
    "EfficientNet": "torchvision:efficientnet_b0",
    "EfficientNet-Lite": "timm:tf_efficientnet_lite0",
    "RegNet": "timm:regnetx_002",
    "MNASNet": "mnasnet0_5",
    "VGG": "cifar:vgg8",
    "ConvNeXt": "timm:convnext_atto",
    "GhostNet": "timm:ghostnet_050",
}


@pytest.fixture(scope="module")
def pictures(make_images: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Two steps' pictures of 32 pixels."""
    folder = make_images(tmp_path_factory.mktemp("pictures") / "p", {"train": 7, "val": 2}, size=32)
    return open_data(DataSettings(str(folder)))


@pytest.fixture(scope="module")
def its_teacher(pictures: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """A ``resnet8`` that saw them once."""
    path = tmp_path_factory.mktemp("teacher") / "t.safetensors"
    train_teacher(pictures, TeacherSettings(teacher="resnet8", **vars(SHORT)), path)
    return find_teacher(GivenTeacher(teacher_weights=str(path)), pictures, "cpu")


def write_int8(path: Path, pictures: DataSet, output: Path) -> None:
    """Write the INT8 form of a float file, with every tensor that a session computes as an output."""
    model = open_float_model(path)
    output.write_bytes(quantize(model, measure_ranges(model, pictures.train, "minmax"), "onnxruntime-cpu"))
    session = open_session_graph(output)
    assert not session.saturating
    assert not session.unknown
    graph = session.model.graph
    known = {value.name for value in graph.output}
    computed = [name for node in graph.node for name in node.output if name and name not in known]
    graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in computed)
    onnx.save(session.model, output)
    images = pictures.preprocess.normalize(pictures.test.fetch(torch.arange(2))).numpy()
    np.save(output.with_suffix(".npy"), np.ascontiguousarray(images))


@pytest.fixture(scope="module")
def make_int8(
    pictures: DataSet, its_teacher: Teacher, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Return what takes a family through all stages, once, and returns the folder of all INT8 files."""
    int8 = tmp_path_factory.mktemp("int8")
    done: set[str] = set()

    def make(family: str) -> Path:
        if family in done:
            return int8
        folder = tmp_path_factory.mktemp(family)
        config = DistillSettings(student=FAMILIES[family], **vars(SHORT))
        distilled = load_distilled(distill(pictures, its_teacher, config, folder / "d.safetensors"))
        for made in strip(distilled, ["plain", "imf@2"], folder / "products"):
            assert made.strip.passed
            product = evaluate_product(load_product(made.path), pictures)
            files = export(product, ["fp32"], None, folder / "deploy")
            (verified,) = verify(product, files, pictures, Gate())
            found = verified.verify
            assert (found.status, found.agreement) == ("pass", 1.0), found
            assert [rung.status for rung in found.ladder] == ["pass"] * len(found.ladder)
            assert "ONNX" in found.ladder[-1].name
            write_int8(files[0].path, pictures, int8 / f"{family} {made.product}.onnx")
        done.add(family)
        return int8

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_family(make_int8: Callable[[str], Path], family: str) -> None:
    make_int8(family)


def test_int8_files_compute_the_same_integers_on_another_processor(
    make_int8: Callable[[str], Path], run_on: Callable[[str, Path], dict[str, np.ndarray]]
) -> None:
    """All files are run by one process for each processor: to start an emulated one takes seconds."""
    for family in FAMILIES:
        folder = make_int8(family)
    here, there = run_on("here", folder), run_on("haswell", folder)
    assert {name.partition("/")[0] for name in here} == {
        f"{f} {p}" for f in FAMILIES for p in ("plain", "imf@2")
    }
    for family in FAMILIES:
        integers = [
            name for name in here if name.startswith(f"{family} ") and here[name].dtype in (np.uint8, np.int8)
        ]
        assert len(integers) > 10, family
        for name in integers:
            assert np.array_equal(here[name], there[name]), name
    for name in (name for name in here if here[name].dtype not in (np.uint8, np.int8)):
        # sums of floats in another order
        assert np.allclose(here[name], there[name], rtol=1e-3, atol=1e-4), name
