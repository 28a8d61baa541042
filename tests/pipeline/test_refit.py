"""Weights that do not belong to an engine are refused before anything is loaded; the rest needs a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from imf_deploy.data import DataSet
from imf_deploy.distillation.distill import load_distilled
from imf_deploy.errors import DeviceError, UsageError
from imf_deploy.export.stage import export
from imf_deploy.files import sha256_file
from imf_deploy.method.products import load_product
from imf_deploy.pipeline.refit import refit_engine
from imf_deploy.records.files import Artifact, EngineFile, OnnxFile
from imf_deploy.records.making import Built
from imf_deploy.stripping.stage import strip
from imf_deploy.verification.stage import evaluate_product

Cli = Callable[..., Any]
BUILD = Built(1.0, {"strip_weights": True})
SHARED = ("parent", "recipe", "model", "preprocess", "product", "precision", "inputs", "outputs")


@pytest.fixture(scope="module")
def files(
    data: DataSet, distilled_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Artifact]:
    """Two products, and the ONNX files of the first."""
    folder = tmp_path_factory.mktemp("run")
    products = [
        evaluate_product(load_product(made.path), data)
        for made in strip(load_distilled(distilled_artifact), ["plain", "imf@1"], folder / "products")
    ]
    made = export(products[0], ["fp32", "fp16"], None, folder / "deploy")
    return {"plain": products[0].artifact, "imf": products[1].artifact} | {f.precision: f for f in made}


@pytest.fixture
def engine(files: dict[str, Artifact], tmp_path: Path) -> Callable[..., Path]:
    """Write the first bytes of an fp16 engine, with its record."""

    def write(**fields: Any) -> Path:
        path = tmp_path / "deploy" / "a-stripped.engine"
        path.parent.mkdir()
        path.write_bytes(b"ftrt" + bytes(20) + bytes((10, 6, 0, 26)) + bytes(100))
        half = files["fp16"]
        shared = {name: getattr(half, name) for name in SHARED}
        engine: Any = {
            "format": "tensorrt",
            "targets": [],
            "batch": "1:1:8",
            "build": BUILD,
            "stripped": True,
        }
        kind = OnnxFile if fields.get("format") == "onnx" else EngineFile
        own = {"path": path, "sha256": sha256_file(path)}
        kind(**shared | (engine if kind is EngineFile else {}) | own | fields).save()
        return path

    return write


@pytest.mark.parametrize(
    ("fields", "weights", "why"),
    [
        ({"format": "tensorrt_rtx"}, "fp16", "was not built with `strip_weights`"),
        ({"build": None}, "fp16", "was not built with `strip_weights`"),
        ({"format": "onnx"}, "fp16", "is an ONNX file, not an engine"),
        ({}, "fp32", "different: precision"),
        ({}, "imf", "different: product"),
        ({"precision": "int8"}, "plain", "no ranges for its activations"),
        ({"inputs": {"images": ["batch", 3, 99, 99]}}, "fp16", "different: inputs"),
    ],
)
def test_what_does_not_belong_together(
    files: dict[str, Artifact],
    engine: Callable[..., Path],
    tmp_path: Path,
    fields: dict[str, Any],
    weights: str,
    why: str,
) -> None:
    with pytest.raises(UsageError, match=why):
        refit_engine(engine(**fields), files[weights].path, tmp_path / "new.engine")
    assert not (tmp_path / "new.engine").exists()


def test_another_network_is_named(
    files: dict[str, Artifact], engine: Callable[..., Path], tmp_path: Path
) -> None:
    model = files["plain"].model | {"name": "other"}
    with pytest.raises(UsageError, match=r"model\.name"):
        refit_engine(engine(model=model), files["plain"].path, tmp_path / "new.engine")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("weights", ["plain", "fp16"])
def test_what_belongs_together_needs_a_gpu(
    files: dict[str, Artifact], engine: Callable[..., Path], tmp_path: Path, cli: Cli, weights: str
) -> None:
    plan = engine()
    with pytest.raises(DeviceError, match="no CUDA device was found"):
        refit_engine(plan, files[weights].path, tmp_path / "new.engine")
    result = cli("refit-engine", plan, files[weights].path, "--output", tmp_path / "new.engine")
    assert result.code == 4
    assert "no CUDA device was found" in result.err
