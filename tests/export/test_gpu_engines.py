"""Engines of the full TensorRT, which needs a GPU even to build: every option, and what can go wrong."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from imf_deploy.artifact import load_artifact
from imf_deploy.calib.product import export_product
from imf_deploy.data import DataSet
from imf_deploy.distillation.distill import load_distilled
from imf_deploy.errors import DeviceError, ImfDeployError, UsageError
from imf_deploy.export import builder
from imf_deploy.export.build_options import changed_options, check_options
from imf_deploy.export.engine_header import read_engine_header
from imf_deploy.export.flavour import gpu_here, this_gpu
from imf_deploy.export.refit import stripped_path
from imf_deploy.export.stage import EnginePlan, export
from imf_deploy.export.tensorrt_writer import EngineInfo, build_engine
from imf_deploy.files import sha256_file
from imf_deploy.method.products import Product, load_product
from imf_deploy.pipeline.refit import refit_engine
from imf_deploy.records.files import Artifact, EngineFile, sidecar_path
from imf_deploy.records.making import CacheUse
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.runners.tensorrt import TensorRTRunner
from imf_deploy.settings import BatchRange, BuildSettings, EngineSettings, Gate, QuantizeSettings
from imf_deploy.stripping.stage import strip
from imf_deploy.verification.stage import evaluate_product, verify

from .test_monitor import SCRIPT

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not gpu_here() or importlib.util.find_spec("tensorrt") is None,
        reason="no CUDA device, or the full TensorRT is not installed",
    ),
]
BATCH = BatchRange(1, 2, 4)
FAST = BuildSettings(builder_level=0)


def built(
    onnx_file: Path, path: Path, options: BuildSettings = FAST, cache: Path | None = None
) -> EngineInfo:
    return build_engine(onnx_file, path, "tensorrt", BATCH, options=options, timing_cache=cache)


def check_answers(
    path: Path, onnx_file: Path, batches: tuple[int, ...] = (1, 4), tolerance: float = 2e-2
) -> None:
    """Compare an engine with its ONNX file in ONNX Runtime."""
    random = np.random.default_rng(0)
    with TensorRTRunner(path) as runner, OnnxRuntimeRunner(onnx_file) as reference:
        for size in batches:
            images = random.standard_normal((size, 3, 16, 16), dtype=np.float32)
            expected = reference.infer(images)
            np.testing.assert_allclose(
                runner.infer(images), expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1)
            )


@pytest.fixture(scope="module")
def cached(onnx_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[EngineInfo, Path]:
    """An engine, and the timing cache that its build began."""
    folder = tmp_path_factory.mktemp("cached")
    info = built(onnx_files["fp16"], folder / "a.engine", BuildSettings())
    (cache,) = folder.glob("*.timing-cache")
    return info, cache


def test_a_second_build_takes_every_timing_from_the_cache(
    onnx_files: dict[str, Path], cached: tuple[EngineInfo, Path]
) -> None:
    info, cache = cached
    assert info.built.timing_cache is not None
    assert info.built.timing_cache == CacheUse(cache.name, found=False, complete=False)
    assert f"sm{gpu_here()}" in cache.name
    before = cache.read_bytes()
    again = built(onnx_files["fp16"], cache.parent / "b.engine", BuildSettings())
    assert again.built.timing_cache is not None
    assert (again.built.timing_cache.found, again.built.timing_cache.complete) == (True, True)
    assert cache.read_bytes() == before
    assert again.gpu == this_gpu()
    check_answers(again.path, onnx_files["fp16"])
    assert builder._builder.cache_info().currsize == 1


IGNORING = """
import sys
from pathlib import Path


from imf_deploy.export.tensorrt_writer import build_engine

model, folder = Path(sys.argv[1]), Path(sys.argv[2])
for name in sys.argv[3:]:
    info = build_engine(
        model,
        folder / "a.engine",
        "tensorrt",
        BatchRange(1, 1, 1),
        (),
        BuildSettings(builder_level=0),
        folder / name,
    )
    print(name, info.built.timing_cache.found, info.built.timing_cache.complete)
"""


def test_a_foreign_or_damaged_cache_is_ignored_with_a_message(
    onnx_files: dict[str, Path], cached: tuple[EngineInfo, Path], tmp_path: Path
) -> None:
    whole = cached[1].read_bytes()
    contents = {
        "garbage": b"no timings at all " * 50,
        "short": whole[: len(whole) // 2],
        "byte": b"x",
        "header": bytes(64) + whole[64:],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    # In a process of its own, which a library that reads foreign bytes may take down.
    done = subprocess.run(
        [sys.executable, "-c", IGNORING, str(onnx_files["fp16"]), str(tmp_path), *contents],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{name} False False" for name in contents]
    for name, content in contents.items():
        assert (tmp_path / name).read_bytes() == content
        assert f"The timing cache {tmp_path / name} was not made by" in done.stderr


def test_a_cache_that_is_shared_is_written_and_read(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    shared = tmp_path / "elsewhere" / "timings"
    for complete in (False, True):
        info = built(onnx_files["fp16"], tmp_path / "a.engine", cache=shared)
        assert info.built.timing_cache is not None
        assert info.built.timing_cache.complete is complete
    assert {path.name for path in tmp_path.iterdir()} == {"a.engine", "elsewhere"}


def test_each_batch_of_several_profiles(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    path, profiles = tmp_path / "a.engine", (BatchRange(1, 1, 1), BatchRange(2, 8, 8), BatchRange(16, 32, 32))
    info = build_engine(onnx_files["fp32"], path, "tensorrt", profiles, options=FAST)
    assert info.batch == profiles
    check_answers(path, onnx_files["fp32"], (1, 8, 32, 1, 5, 16), 1e-3)
    with (
        TensorRTRunner(path) as runner,
        pytest.raises(ImfDeployError, match="1 to 1, or 2 to 8, or 16 to 32"),
    ):
        runner.infer(np.zeros((9, 3, 16, 16), np.float32))


@pytest.mark.parametrize(
    "options",
    [
        BuildSettings(hardware_compatible="ampere+", builder_level=0),
        BuildSettings(builder_level=5, workspace=64),
    ],
    ids=str,
)
def test_options_build_engines_that_answer(
    onnx_files: dict[str, Path], tmp_path: Path, options: BuildSettings
) -> None:
    info = built(onnx_files["fp16"], tmp_path / "a.engine", options)
    assert info.built.options == changed_options(options)
    assert info.built.seconds > 0
    check_answers(info.path, onnx_files["fp16"])


def test_an_engine_for_other_versions(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    options = BuildSettings(version_compatible=True, builder_level=0)
    path = tmp_path / "a.engine"
    try:
        check_options(options, "tensorrt")
    except UsageError as error:
        assert "tensorrt_lean" in error.hint
        with pytest.raises(UsageError):
            built(onnx_files["fp16"], path, options)
        assert not list(tmp_path.iterdir())
        return
    built(onnx_files["fp16"], path, options)
    # It brings host code along, which only its record allows to run.
    with pytest.raises(ImfDeployError, match="refuses"), TensorRTRunner(path):
        pass


def test_a_signal_cancels_the_build(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(onnx_files["fp32"]), str(tmp_path), "tensorrt"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *interrupted, built = done.stdout.splitlines()
    assert [line.split()[0] for line in interrupted] == ["start", "step", "finish"]
    # Timings that were measured by then may stay.
    left = {name for line in interrupted for name in line.split()[2:] if not name.endswith(".timing-cache")}
    assert not left
    assert built == "True"


@pytest.fixture(scope="module")
def product(data: DataSet, distilled_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Product:
    (made,) = strip(
        load_distilled(distilled_artifact), ["imf@1"], tmp_path_factory.mktemp("run") / "products"
    )
    return evaluate_product(load_product(made.path), data)


def test_every_precision_of_a_product_passes_its_verification(
    product: Product, data: DataSet, tmp_path: Path
) -> None:
    engines = EnginePlan(
        "tensorrt", EngineSettings(batch=(BatchRange(1, 1, 1), BatchRange(2, 8, 16)), **vars(FAST))
    )
    config = QuantizeSettings(gate=Gate(100, 0), rank=False, keep_int8=True)
    files, declined = export_product(
        product, data, ["fp32", "fp16", "int8"], config, engines, tmp_path / "deploy"
    )
    assert declined == []
    results = {file.precision: file.verify for file in verify(product, files, data) if file.kind == "engine"}
    assert {
        name: (result.status, result.reason) for name, result in results.items() if result
    } == dict.fromkeys(["fp32", "fp16", "int8"], ("pass", None))
    assert all(result and result.batches and result.batches.batch == 16 for result in results.values())


@pytest.fixture(scope="module")
def strippable(product: Product) -> dict[str, Artifact]:
    """Engines whose weights can be replaced, and their ONNX files, by format and precision."""
    config = EnginePlan("tensorrt", EngineSettings(batch=(BATCH,), strip_weights=True, builder_level=0))
    folder = product.artifact.path.parent.parent / "deploy"
    return {
        f"{file.kind} {file.precision}": file for file in export(product, ["fp32", "fp16"], config, folder)
    }


@pytest.fixture(scope="module")
def other(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A product of the same architecture with other weights."""
    path = tmp_path_factory.mktemp("other") / product.artifact.path.name
    random = torch.Generator().manual_seed(0)
    tensors = {
        name: tensor * (1 + 0.5 * torch.rand(tensor.shape, generator=random)) if tensor.ndim > 1 else tensor
        for name, tensor in load_file(product.artifact.path).items()
    }
    save_file(tensors, path)
    return product.artifact.revised(path=path, sha256=sha256_file(path)).save()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", ["product", "onnx"])
def test_new_weights_go_into_an_engine(
    strippable: dict[str, Artifact], other: Artifact, tmp_path: Path, precision: str, kind: str
) -> None:
    engine = strippable[f"engine {precision}"]
    check_answers(engine.path, strippable[f"onnx {precision}"].path)
    (onnx_file,) = export(load_product(other.path), [precision], None, tmp_path)  # type: ignore[list-item]
    source = other.path if kind == "product" else onnx_file.path
    made = refit_engine(stripped_path(engine.path), source, tmp_path / "new.engine")
    check_answers(made.path, onnx_file.path)
    assert made.source == other.sha256
    assert made.refit
    assert {check.status for check in made.refit.checks} == {"pass"}
    # The old weights answer otherwise, or this would show nothing.
    with pytest.raises(AssertionError):
        check_answers(engine.path, onnx_file.path)


def test_a_plan_without_weights_is_not_run(strippable: dict[str, Artifact], tmp_path: Path) -> None:
    plan = stripped_path(strippable["engine fp32"].path)
    assert plan.stat().st_size < strippable["engine fp32"].path.stat().st_size
    with pytest.raises(ImfDeployError, match="has no weights"), TensorRTRunner(plan):
        pass
    alone = tmp_path / "alone.engine"  # without a record that would say so
    alone.write_bytes(plan.read_bytes())
    with pytest.raises(ImfDeployError, match="has no weights"), TensorRTRunner(alone):
        pass


def test_weights_of_another_precision_are_refused(strippable: dict[str, Artifact], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="precision"):
        refit_engine(strippable["engine fp32"].path, strippable["onnx fp16"].path, tmp_path / "a.engine")
    assert not list(tmp_path.iterdir())


def test_an_engine_of_another_gpu_or_version_names_both_sides(
    strippable: dict[str, Artifact], tmp_path: Path
) -> None:
    path = tmp_path / "deploy" / "a.engine"
    path.parent.mkdir()
    whole = strippable["engine fp16"]
    path.write_bytes(whole.path.read_bytes())
    record = json.loads(sidecar_path(whole.path).read_text())
    record["build"]["gpu"] |= {"name": "NVIDIA L4", "capability": "89"}
    sidecar_path(path).write_text(json.dumps(record))
    with pytest.raises(DeviceError, match=r"built on NVIDIA L4 \(SM89\), and the GPU here is") as caught:
        TensorRTRunner(path).__enter__()
    assert "imf-deploy export" in caught.value.hint
    sidecar_path(path).unlink()
    content = bytearray(path.read_bytes())
    content[24:28] = bytes((10, 0, 1, 6))
    path.write_bytes(content)
    assert read_engine_header(path).version == "10.0.1.6"
    script = "import sys; from pathlib import Path; from imf_deploy.runners.tensorrt import TensorRTRunner\n"
    script += "TensorRTRunner(Path(sys.argv[1])).__enter__()"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert "was built by TensorRT 10.0.1.6, and TensorRT" in done.stderr.splitlines()[-1]


def test_the_record_tells_how_an_engine_was_built(strippable: dict[str, Artifact]) -> None:
    record = load_artifact(strippable["engine fp16"].path, EngineFile).build
    assert record
    gpu = this_gpu()
    assert gpu is not None
    assert record.gpu == gpu
    assert gpu.cuda_driver
    assert record.options == {"level": 0, "strip_weights": True}
    assert (record.timing_cache or pytest.fail("no cache")).file.endswith(".timing-cache")
