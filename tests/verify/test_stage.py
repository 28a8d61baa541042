"""Files are run, compared with the model they came from, and gated."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from imf_deploy.artifact import Artifact, describe, load_artifact, sidecar_path
from imf_deploy.data import DataConfig, DataSet, open_data
from imf_deploy.errors import ImfDeployError
from imf_deploy.export.stage import EngineConfig, export
from imf_deploy.export.targets import BatchRange
from imf_deploy.strip.products import Product, load_product
from imf_deploy.strip.stage import strip
from imf_deploy.train.distill import load_distilled
from imf_deploy.verify.stage import evaluate_product, verify


@pytest.fixture(scope="module")
def products(
    data: DataSet, distilled_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> list[Product]:
    made = strip(load_distilled(distilled_artifact), ["plain", "imf@1"], tmp_path_factory.mktemp("products"))
    return [evaluate_product(load_product(artifact.path), data) for artifact in made]


@pytest.fixture(scope="module")
def product(products: list[Product]) -> Product:
    return products[1]


@pytest.fixture(scope="module")
def exported(product: Product, tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    pytest.importorskip("tensorrt_rtx")
    engines = EngineConfig("rtx", BatchRange(1, 1, 8))
    return export(product, ["fp32", "fp16"], engines, tmp_path_factory.mktemp("deploy"))


def test_accuracy_is_kept_in_the_product_s_record(product: Product, data: DataSet) -> None:
    evidence = load_artifact(product.artifact.path).evidence
    assert 0 <= evidence["accuracy"] <= 1
    assert evidence["images"] == len(data.test)
    assert 0 <= evidence["validation_accuracy"] <= 1
    assert evaluate_product(product, data) is product


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_good_file_passes(
    product: Product, exported: list[Artifact], data: DataSet, precision: str
) -> None:
    files = [file for file in exported if file.precision == precision and file.format == "onnx"]
    (verified,) = verify(product, files, data)
    result = verified.evidence["verify"]
    assert (result["status"], result["reason"]) == ("pass", None)
    assert result["images"] == len(data.test)
    assert result["agreement"] == 1
    assert result["pytorch_accuracy"] == product.artifact.evidence["accuracy"]
    assert result["max_abs_diff"] <= result["tolerance"]
    assert (result["max_abs_diff"] > 0) or precision == "fp32"
    low, high = result["accuracy_interval"]
    assert low <= result["accuracy"] <= high
    kept = json.loads(sidecar_path(verified.path).read_text())["evidence"]["verify"]
    assert kept["max_abs_diff"] == result["max_abs_diff"]


def test_an_engine_without_a_gpu_has_a_row(
    product: Product, exported: list[Artifact], data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    engines = [file for file in exported if file.format == "tensorrt_rtx"]
    assert len(engines) == 2
    for verified in verify(product, engines, data):
        result = verified.evidence["verify"]
        assert result["status"] == "not-run"
        assert "no CUDA device" in result["reason"]
        assert verified.evidence["targets"]
        assert verified.path.stat().st_size > 1000


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_file_whose_weights_changed_fails(
    product: Product, exported: list[Artifact], data: DataSet, tmp_path: Path, precision: str
) -> None:
    good = next(file for file in exported if file.precision == precision and file.format == "onnx")
    model = onnx.load(good.path)
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = numpy_helper.to_array(weights).copy()
    values.flat[: values.size // 4] *= np.asarray(1.5, values.dtype)
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    path = tmp_path / good.path.name
    onnx.save(model, str(path))
    fields = {name: getattr(good, name) for name in good.__dataclass_fields__}
    for name in ("path", "sha256"):
        del fields[name]
    (verified,) = verify(product, [describe(path, **fields).save()], data)
    result = verified.evidence["verify"]
    assert result["status"] == "fail"
    assert "largest logit difference" in result["reason"] or "agreement" in result["reason"]


def test_a_file_of_another_product(products: list[Product], exported: list[Artifact], data: DataSet) -> None:
    with pytest.raises(ImfDeployError, match=r"was not made from .*plain") as caught:
        verify(products[0], exported[:1], data)
    assert caught.value.hint


def test_data_with_other_preprocessing(
    product: Product, exported: list[Artifact], image_folder: Path
) -> None:
    other = open_data(DataConfig(str(image_folder), image_size=24))
    with pytest.raises(ImfDeployError, match="preprocessed otherwise"):
        verify(product, exported[:1], other)


def test_a_file_that_is_no_longer_there(product: Product, exported: list[Artifact], data: DataSet) -> None:
    gone = replace(exported[0], path=exported[0].path.with_name("gone.onnx"))
    with pytest.raises(ImfDeployError, match=r"gone\.onnx"):
        verify(product, [gone], data)
