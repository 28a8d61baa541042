"""Files are run, compared with the model they came from, and gated."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from imf_deploy.artifact import load_artifact
from imf_deploy.data import DataSet, open_data
from imf_deploy.distillation.distill import load_distilled
from imf_deploy.errors import DeviceError, ImfDeployError
from imf_deploy.export.stage import EnginePlan, export
from imf_deploy.files import sha256_file
from imf_deploy.method.products import Product, load_product
from imf_deploy.records.checks import Rung
from imf_deploy.records.files import Artifact, ProductFile, sidecar_path
from imf_deploy.settings import BatchRange, DataSettings, EngineSettings, Gate
from imf_deploy.stripping.stage import strip
from imf_deploy.verification import stage
from imf_deploy.verification.origin import with_origins
from imf_deploy.verification.parity import compare
from imf_deploy.verification.stage import evaluate_product, failure, verify


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
    engines = EnginePlan("rtx", EngineSettings(batch=(BatchRange(1, 1, 8),)))
    return export(product, ["fp32", "fp16"], engines, tmp_path_factory.mktemp("deploy"))


def test_accuracy_is_kept_in_the_product_s_record(product: Product, data: DataSet) -> None:
    record = load_artifact(product.artifact.path, ProductFile)
    assert 0 <= (record.accuracy or -1) <= 1
    assert record.images == len(data.test)
    assert 0 <= (record.validation_accuracy or -1) <= 1
    assert evaluate_product(product, data) is product


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_good_file_passes(
    product: Product, exported: list[Artifact], data: DataSet, precision: str
) -> None:
    files = [file for file in exported if file.precision == precision and file.format == "onnx"]
    (verified,) = verify(product, files, data)
    result = verified.verify
    assert (result.status, result.reason) == ("pass", None)
    assert result.images == len(data.test)
    assert result.agreement == 1
    assert result.pytorch_accuracy == product.artifact.accuracy
    own = result.ladder[-1]
    assert own.name == f"ONNX {precision}"
    assert own.max_abs_diff <= own.tolerance
    assert result.gate == Gate(1.0, 0.97)
    assert (result.max_abs_diff > 0) or precision == "fp32"
    low, high = result.accuracy_interval
    assert low <= result.accuracy <= high
    before = sidecar_path(verified.path).read_bytes()
    verified.save()
    kept = json.loads(sidecar_path(verified.path).read_text())["verify"]
    assert kept["max_abs_diff"] == result.max_abs_diff
    sidecar_path(verified.path).write_bytes(before)


def test_verifying_changes_no_record(product: Product, exported: list[Artifact], data: DataSet) -> None:
    paths = [sidecar_path(file.path) for file in (*exported, product.artifact)]
    before = [path.read_bytes() for path in paths]
    verify(product, exported, data, Gate(100, 0))
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize(
    "lie", [{"precision": "int8"}, {"format": "tensorrt"}, {"precision": "fp16", "format": "onnx"}]
)
def test_a_record_that_lies(
    product: Product, exported: list[Artifact], data: DataSet, lie: dict[str, str]
) -> None:
    with pytest.raises(ImfDeployError, match="but it is onnx fp32") as caught:
        verify(product, [exported[0].revised(**lie)], data)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DeviceError("the GPU here is SM90"), "not-run"),
        (ImfDeployError("TensorRT cannot load it"), "fail"),
        (RuntimeError("CUDA error: out of memory\nmore"), "fail"),
    ],
)
def test_an_engine_that_does_not_run_on_a_gpu_has_failed(
    product: Product,
    exported: list[Artifact],
    data: DataSet,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: str,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (8, 9))
    monkeypatch.setattr(stage, "open_file", refuse)
    engine = next(file for file in exported if file.format == "tensorrt_rtx")
    (verified,) = verify(product, [engine], data)
    result = verified.verify
    assert result.status == result.ladder[-1].status == status
    assert result.reason in str(error)
    assert "\n" not in result.reason


def test_engines_that_fail_alike_have_one_reason(
    product: Product, exported: list[Artifact], data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise ImfDeployError(f"tensorrt_rtx 1.7 refuses {path}: another version")

    monkeypatch.setattr(stage, "open_file", refuse)
    engines = [file for file in exported if file.format == "tensorrt_rtx"]
    assert len(engines) == 2
    reasons = {verified.verify.reason for verified in verify(product, engines, data)}
    assert reasons == {"tensorrt_rtx 1.7 refuses it: another version"}


def test_a_gpu_that_runs_no_rtx_engines_fails_none(
    product: Product, exported: list[Artifact], data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (9, 0))
    engines = [file for file in exported if file.format == "tensorrt_rtx"]
    found = [verified.verify for verified in verify(product, engines, data)]
    assert {result.status for result in found} == {"not-run"}
    (reason,) = {result.reason for result in found}
    assert reason.startswith("the GPU here is SM90, and the engine is for SM80, SM86")


def test_an_engine_without_a_gpu_has_a_row(
    product: Product, exported: list[Artifact], data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    engines = [file for file in exported if file.format == "tensorrt_rtx"]
    assert len(engines) == 2
    for verified in verify(product, engines, data):
        result = verified.verify
        assert result.status == "not-run"
        assert "no CUDA device" in result.reason
        assert verified.targets
        assert verified.path.stat().st_size > 1000


def scaled(good: Artifact, folder: Path) -> Artifact:
    """Write a copy of an ONNX file in which a quarter of the largest weight is half as large again."""
    model = onnx.load(good.path)
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = numpy_helper.to_array(weights).copy()
    values.flat[: values.size // 4] *= np.asarray(1.5, values.dtype)
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    path = folder / good.path.name
    onnx.save(model, str(path))
    return good.revised(path=path, sha256=sha256_file(path)).save()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_file_whose_weights_changed_fails(
    product: Product, exported: list[Artifact], data: DataSet, tmp_path: Path, precision: str
) -> None:
    good = next(file for file in exported if file.precision == precision and file.format == "onnx")
    (verified,) = verify(product, [scaled(good, tmp_path)], data)
    result = verified.verify
    assert result.status == "fail"
    assert result.reason.startswith(f"at ONNX {precision}, largest logit difference")
    assert [rung.status for rung in result.ladder] == ["pass", "pass", "fail"]


def test_the_first_rung_that_breaks_is_named(
    product: Product, exported: list[Artifact], data: DataSet, tmp_path: Path
) -> None:
    fp32, fp16 = (file for file in exported if file.format == "onnx")
    broken = scaled(fp32, tmp_path)
    bad, good = verify(product, [broken, fp16], data)
    assert bad.verify.reason.startswith("at ONNX fp32, ")
    result = good.verify
    assert [rung.name for rung in result.ladder] == ["stripped", "folded", "ONNX fp32", "ONNX fp16"]
    assert result.reason.startswith("the ladder breaks at ONNX fp32 (largest logit difference")
    assert result.reason.endswith("on which ONNX fp16 depends")
    # Beside PyTorch alone it is as good as before.
    assert verify(product, [fp16], data)[0].verify.status == "pass"


def test_a_gate_that_is_missed() -> None:
    def missed(gate: Gate) -> str:
        logits = np.eye(4, dtype=np.float32)
        return compare(logits, logits[::-1], np.arange(4), gate).reason or ""

    holds = Rung("ONNX int8", "ONNX fp32", "pass")
    assert failure([holds], missed(Gate(100, 0.1))) == ("at ONNX int8, top-1 agreement 0.00% is below 10.00%")
    assert failure([holds], missed(Gate(100, 0))) == ""
    broken = Rung("ONNX fp32", "stripped", "fail", "too far")
    assert (
        failure([broken, holds], "") == "the ladder breaks at ONNX fp32 (too far), on which ONNX int8 depends"
    )


def test_origins_lie_beside_a_file(exported: list[Artifact]) -> None:
    fp32, engine32, fp16, engine16 = exported
    assert [file.path for file in with_origins(engine32)] == [fp32.path, engine32.path]
    assert [file.path for file in with_origins(engine16)] == [fp32.path, fp16.path, engine16.path]
    assert with_origins(fp32) == [fp32]


def test_a_file_of_another_product(products: list[Product], exported: list[Artifact], data: DataSet) -> None:
    with pytest.raises(ImfDeployError, match=r"was not made from .*plain") as caught:
        # Refused by its hash: nothing is run.
        verify(Product(products[0].artifact, torch.nn.Module()), exported[:1], data)
    assert caught.value.hint


def test_data_with_other_preprocessing(
    product: Product, exported: list[Artifact], image_folder: Path
) -> None:
    other = open_data(DataSettings(str(image_folder), image_size=24))
    with pytest.raises(ImfDeployError, match="other preprocessing"):
        verify(product, exported[:1], other)


def test_a_file_that_is_no_longer_there(product: Product, exported: list[Artifact], data: DataSet) -> None:
    gone = exported[0].revised(path=exported[0].path.with_name("gone.onnx"))
    with pytest.raises(ImfDeployError, match=r"gone\.onnx"):
        verify(product, [gone], data)


def test_what_is_of_another_product_is_refused_before_anything_runs(
    products: list[Product], exported: list[Artifact], data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("nothing was to be run")

    monkeypatch.setattr(stage, "logits_of", forbidden)
    with pytest.raises(ImfDeployError, match="was not made from"):
        verify(products[0], exported, data)
