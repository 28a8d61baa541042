from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from imf_deploy.benchmark.int8 import does_int8_pay
from imf_deploy.benchmark.products import measure_products
from imf_deploy.calib import product as module
from imf_deploy.calib.product import export_int8, export_product
from imf_deploy.data import DataSet, open_data
from imf_deploy.distillation.distill import Distilled
from imf_deploy.errors import GateError, UsageError
from imf_deploy.export.choice import choose_precisions, every_form
from imf_deploy.export.stage import EnginePlan, export
from imf_deploy.method.products import Product, load_product
from imf_deploy.records.files import Artifact
from imf_deploy.report.assemble import artifact_row
from imf_deploy.settings import (
    BatchRange,
    DataSettings,
    EngineSettings,
    ExportSettings,
    Gate,
    QuantizeSettings,
)
from imf_deploy.stripping.stage import strip
from imf_deploy.verification.stage import evaluate_product, verify

# The student is hardly trained: what is tested is the way, not the accuracy.
LOOSE = QuantizeSettings(images=40, gate=Gate(100, 0), keep_int8=True)


@pytest.fixture
def small(image_folder: Path) -> DataSet:
    return open_data(DataSettings(str(image_folder)))


@pytest.fixture
def product(distilled: Distilled, small: DataSet, images: torch.Tensor, tmp_path: Path) -> Product:
    artifact = strip(distilled, ["imf@1"], tmp_path / "products", images)[0]
    return evaluate_product(load_product(artifact.path), small)


def test_int8_brings_fp32() -> None:
    assert choose_precisions(["int8"]) == every_form(["fp32", "int8"])
    assert choose_precisions(["fp32", "fp16"]) == every_form(["fp32", "fp16"])
    assert choose_precisions(["int8", "fp16"]) == every_form(["fp32", "fp16", "int8"])
    with pytest.raises(UsageError, match="int4"):
        ExportSettings(precisions="fp32,int4")  # type: ignore[arg-type]


def test_the_way_of_a_product(product: Product, small: DataSet, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 alone")
    engines = EnginePlan("rtx", EngineSettings(batch=(BatchRange(1, 1, 8),), compute_capability=("86",)))
    made, declined = export_product(product, small, ["fp32", "int8"], LOOSE, engines, tmp_path / "deploy")
    assert declined == []
    files, made = made[:2], made[2:]
    stem = f"{product.artifact.model['name']}-imf@1"
    assert [artifact.path.name for artifact in made] == [
        f"{stem}-int8.onnx", f"{stem}-int8-trt.onnx", f"{stem}-int8-sm86.engine"
    ]  # fmt: skip
    verified = verify(product, [*files, *made], small)
    states = [(artifact.precision, artifact.verify.status) for artifact in verified]
    assert [status for _, status in states[2:4]] == ["pass", "pass"], verified[2].verify
    # The file's own gate, not the default one, and the engine inherits it.
    assert verified[2].verify.gate.max_accuracy_drop == 100
    assert verified[4].gate == made[0].gate
    ladders = [[rung.name for rung in file.verify.ladder] for file in verified]
    start = ["stripped", "folded", "ONNX fp32"]
    assert ladders[0] == start
    assert ladders[1:] == [
        [*start, "engine fp32"], [*start, "ONNX int8 for onnxruntime-cpu"],
        [*start, "ONNX int8 for tensorrt"], [*start, "ONNX int8 for tensorrt", "engine int8"],
    ]  # fmt: skip
    latencies = measure_products([product], verified, 0.02)
    assert verified[2].sha256 in latencies
    assert verified[3].sha256 not in latencies  # Q/DQ for TensorRT says nothing about a CPU
    assert len(does_int8_pay(verified, latencies)) == 1
    row = artifact_row(verified[2], product.artifact, latencies[verified[2].sha256], tmp_path)
    own = verified[2].calibration.validation.accuracy
    assert (row.precision, row.validation_accuracy) == ("int8", own)
    assert row.calibration.layers == len(row.calibration.sensitivity) > 3


def test_a_declined_product_is_reported(
    product: Product, small: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decline(
        path: Path,
        data: DataSet,
        config: QuantizeSettings,
        folder: Path,
        overwrite: bool,
        rivals: Sequence[Path] = (),
    ) -> Artifact:
        raise GateError(f"{config.target} is declined")

    monkeypatch.setattr(module, "calibrate", decline)
    files = export(product, ["fp32"], None, tmp_path / "deploy")
    engines = EnginePlan("rtx", EngineSettings(batch=(BatchRange(1, 1, 8),)))
    assert export_int8(product, files, small, LOOSE, engines, tmp_path / "deploy") == (
        [], ["onnxruntime-cpu is declined", "tensorrt is declined"]
    )  # fmt: skip
