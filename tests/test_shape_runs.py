"""A student for images of 24x40 pixels and one channel passes all stages."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from imf_deploy.benchmark.stage import bench
from imf_deploy.calib.stage import calibrate
from imf_deploy.data import DataSet, open_data, reopen_data
from imf_deploy.distillation.distill import distill, load_distilled
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.export.stage import EnginePlan, export
from imf_deploy.inspection.onnx_model import inspect_onnx
from imf_deploy.method.products import Product, load_product
from imf_deploy.models import ModelSpec
from imf_deploy.preprocess import Preprocess
from imf_deploy.settings import (
    BenchSettings,
    DataSettings,
    DistillSettings,
    EngineSettings,
    Gate,
    GivenTeacher,
    QuantizeSettings,
    TeacherSettings,
    TrainingSettings,
)
from imf_deploy.stripping.stage import strip
from imf_deploy.teaching.teacher import find_teacher, train_teacher
from imf_deploy.verification.stage import evaluate_product, verify

SHORT = TrainingSettings(epochs=2, batch_size=6, lr=0.02, device="cpu")
FREE = Gate(100.0, 0.0)


@pytest.fixture(scope="module")
def pictures(make_images: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Coloured pictures, as grey input of 24x40 pixels."""
    folder = make_images(tmp_path_factory.mktemp("pictures") / "p", {"train": 12, "val": 4}, size=32)
    return open_data(DataSettings(str(folder), image_size=(24, 40), channels=1))


@pytest.fixture(scope="module")
def products(pictures: DataSet, tmp_path_factory: pytest.TempPathFactory) -> list[Product]:
    """What is stripped of a ``resnet8`` that another one taught."""
    folder = tmp_path_factory.mktemp("shapes")
    path = folder / "teacher.safetensors"
    train_teacher(pictures, TeacherSettings(teacher="resnet8", **vars(SHORT)), path)
    its = find_teacher(GivenTeacher(teacher_weights=str(path)), pictures, "cpu")
    made = distill(pictures, its, DistillSettings(student="resnet8", **vars(SHORT)), folder / "d.safetensors")
    assert (made.blocks[0].size, made.blocks[-1].size) == ((24, 40), (6, 10))
    stripped = strip(load_distilled(made), ["plain", "imf@2"], folder / "products")
    assert all(product.strip and product.strip.passed for product in stripped)
    return [evaluate_product(load_product(product.path), pictures) for product in stripped]


def test_the_records_of_the_data(pictures: DataSet, products: list[Product]) -> None:
    known = pictures.preprocess
    assert (known.shape, known.size, known.color) == ((1, 24, 40), (24, 40), "L")
    for product in products:
        record = product.artifact
        assert record.preprocess == known
        assert ModelSpec.from_dict(record.model).shape == (1, 24, 40)
        assert json.loads(json.dumps(record.model)) == record.model
        assert reopen_data(record.data_config).fingerprint == pictures.fingerprint


@pytest.fixture(scope="module")
def plain_file(products: list[Product], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(products[0], ["fp32"], None, tmp_path_factory.mktemp("plain"))[0].path


def test_every_file(pictures: DataSet, products: list[Product], tmp_path: Path) -> None:
    plan = EnginePlan("rtx", EngineSettings(compute_capability=("86",)), ("fp16",))
    product = products[1]
    files = export(product, ["fp32", "fp16"], plan, tmp_path)
    assert [file.inputs["images"] for file in files] == [["batch", 1, 24, 40]] * 3
    config = QuantizeSettings(images=24, gate=FREE, keep_int8=True)
    for target in ("onnxruntime-cpu", "tensorrt"):
        files.append(calibrate(files[0].path, pictures, replace(config, target=target), tmp_path))
    checked = verify(product, files, pictures, FREE)
    found = {file.path.name: file.verify.status for file in checked if file.verify}
    assert sorted(found.values()) == ["not-run", "pass", "pass", "pass", "pass"], found
    int8 = files[3].path
    assert inspect_onnx(int8).facts["inputs"][0]["shape"] == ["batch", 1, 24, 40]
    quick = BenchSettings(duration=0.0, iterations=1, warmup=0.0, loads=6, startup=False, threads=1)
    measured = bench([int8, product.artifact.path], quick)
    assert (len(measured.rows), measured.settings["image_shape"]) == (2, [1, 24, 40])


def test_a_file_served_by_its_metadata_alone(
    pictures: DataSet, products: list[Product], plain_file: Path
) -> None:
    session = onnxruntime.InferenceSession(str(plain_file))
    about = json.loads(session.get_modelmeta().custom_metadata_map["preprocess"])
    assert (about["size"], about["color"], about["mean"]) == ([24, 40], "L", [0.449])
    assert Preprocess.from_dict(about) == pictures.preprocess
    grey = pictures.test.fetch(torch.arange(4)).numpy()
    mean, std = (np.array(about[key], np.float32).reshape(-1, 1, 1) for key in ("mean", "std"))
    logits = session.run(["logits"], {"images": (grey / np.float32(255) - mean) / std})[0]
    with torch.no_grad():
        expected = products[0].module(pictures.preprocess.normalize(torch.from_numpy(grey)))
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_other_data_is_refused_by_its_shape(pictures: DataSet, plain_file: Path, tmp_path: Path) -> None:
    square = open_data(replace(DataSettings(**pictures.config), image_size=24))
    with pytest.raises(UsageError, match=r"\(size: 24, but the model needs \(24, 40\)\)"):
        calibrate(plain_file, square, QuantizeSettings(images=8, keep_int8=True), tmp_path)
    coloured = open_data(replace(DataSettings(**pictures.config), channels=3))
    with pytest.raises(UsageError, match=r"\(channels: 3, but the model needs 1\)"):
        calibrate(plain_file, coloured, QuantizeSettings(images=8, keep_int8=True), tmp_path)
    model = onnx.load(plain_file)
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 24
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ImfDeployError, match=r"prepared as \[batch, 1, 24, 40\]"):
        calibrate(tmp_path / "a.onnx", pictures, QuantizeSettings(images=8, keep_int8=True), tmp_path)
