from __future__ import annotations

from pathlib import Path

import pytest

from imf_deploy.distillation.distill import Distilled
from imf_deploy.errors import UsageError
from imf_deploy.export.choice import DEPLOYED, choose_precisions, every_form
from imf_deploy.export.stage import EnginePlan, choose_engines, export
from imf_deploy.method.products import load_product
from imf_deploy.settings import BatchRange, EngineSettings, ExportSettings
from imf_deploy.settings.export import Precision
from imf_deploy.stripping.stage import strip


@pytest.mark.parametrize(
    ("option", "onnx", "with_engines"),
    [
        ("deploy", ["fp32", "int8"], ["fp32", "fp16", "int8"]),
        (" deploy ,", ["fp32", "int8"], ["fp32", "fp16", "int8"]),
        ("fp16", ["fp16"], ["fp16"]),
        ("int8,fp16", ["fp32", "fp16", "int8"], ["fp32", "fp16", "int8"]),
    ],
)
def test_an_fp16_file_is_for_engines_unless_it_is_asked_for(
    option: str, onnx: list[Precision], with_engines: list[Precision]
) -> None:
    choice = choose_precisions(ExportSettings(precisions=option).precisions)  # type: ignore[arg-type]
    assert choice.written(engines=False) == onnx
    assert choice.written(engines=True) == with_engines
    assert choice.int8 == ("int8" in onnx)


def test_deploy_stands_alone() -> None:
    assert choose_precisions(("fp32", "fp16", "int8")) == every_form(["fp32", "fp16", "int8"])
    for wrong in ("deploy,fp32", "best", "", "Deploy"):
        with pytest.raises(UsageError, match=r"`precisions` .* is not known"):
            ExportSettings(precisions=wrong)  # type: ignore[arg-type]


def test_deploy_builds_for_turing() -> None:
    """Its engines are in fp16, which is all that Turing takes."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 alone")
    settings = EngineSettings(trt="rtx", compute_capability=("75",))
    engines, _ = choose_engines(settings, DEPLOYED)
    assert engines is not None
    assert engines.precisions == ("fp16",)
    with pytest.raises(UsageError, match="compute capability 75"):
        choose_engines(settings, choose_precisions(["fp16", "fp32"]))


def test_engines_of_one_precision_and_the_same_ones_of_all(distilled: Distilled, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 alone")
    product = load_product(strip(distilled, ["imf@1"], tmp_path)[0].path)
    few = EnginePlan(
        "rtx", EngineSettings(batch=(BatchRange(1, 1, 8),), compute_capability=("86",)), precisions=("fp16",)
    )
    made = export(product, ["fp32", "fp16"], few, tmp_path)
    assert [f"{artifact.precision} {artifact.format}" for artifact in made] == [
        "fp32 onnx", "fp16 onnx", "fp16 tensorrt_rtx"
    ]  # fmt: skip
    before = made[-1].path.stat().st_mtime_ns
    again = export(
        product,
        ["fp32", "fp16"],
        EnginePlan("rtx", EngineSettings(batch=(BatchRange(1, 1, 8),), compute_capability=("86",))),
        tmp_path,
    )
    assert [artifact.format for artifact in again] == ["onnx", "tensorrt_rtx"] * 2
    assert again[-1].path.stat().st_mtime_ns == before
