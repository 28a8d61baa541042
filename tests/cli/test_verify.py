"""``imf-deploy verify`` as a gate of somebody's CI: exit codes, the rung, and a JSON file."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from imf_deploy.data import DataSet
from imf_deploy.distillation.distill import load_distilled
from imf_deploy.export.stage import EnginePlan, export
from imf_deploy.files import sha256_file
from imf_deploy.method.products import load_product
from imf_deploy.records.files import Artifact
from imf_deploy.settings import BatchRange, EngineSettings
from imf_deploy.stripping.stage import strip
from imf_deploy.verification.stage import evaluate_product

Here = Callable[..., Any]


@pytest.fixture(scope="module")
def made(
    data: DataSet, distilled_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Artifact]]:
    """A product's weights and its ONNX file and, where TensorRT-RTX is there, its engine."""
    folder = tmp_path_factory.mktemp("run")
    (stripped,) = strip(load_distilled(distilled_artifact), ["imf@1"], folder / "products")
    product = evaluate_product(load_product(stripped.path), data)
    try:
        import tensorrt_rtx  # noqa: F401

        engines = EnginePlan("rtx", EngineSettings(batch=(BatchRange(1, 1, 8),)))
    except ImportError:
        engines = None
    return stripped.path, export(product, ["fp32"], engines, folder / "deploy")


def test_a_good_file(here: Here, made: tuple[Path, list[Artifact]], tmp_path: Path) -> None:
    product, files = made
    result = here("verify", files[0].path, "--against", product, "--output", tmp_path / "v.json")
    assert result.code == 0, result.err
    assert ": pass" in result.out.splitlines()[0]
    assert "ONNX fp32 against folded: pass" in result.out
    assert "No image changes its class" in result.out
    written = json.loads((tmp_path / "v.json").read_text())
    assert (written["status"], written["sha256"]) == ("pass", files[0].sha256)
    again = here("verify", files[0].path, "--against", product, "--output", tmp_path / "v.json")
    assert again.code == 2
    assert "--overwrite" in again.err


def test_it_changes_no_record(here: Here, made: tuple[Path, list[Artifact]]) -> None:
    product, files = made
    paths = [path for file in (product, files[0].path) for path in file.parent.glob("*.json")]
    before = [path.read_bytes() for path in paths]
    gate = ("--max-accuracy-drop", "100", "--min-agreement", "0")
    assert here("verify", files[0].path, "--against", product, *gate).code == 0
    assert [path.read_bytes() for path in paths] == before


def test_what_is_no_deployable_file(here: Here, made: tuple[Path, list[Artifact]]) -> None:
    product, _ = made
    result = here("verify", product, "--against", product)
    assert result.code == 2
    assert "verify takes ONNX files and engines" in result.err


def places(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the way to every value of a record."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, part in value.items():
            found += places(part, (*path, key))
    return found


@pytest.mark.parametrize("which", ["file", "product"])
def test_damaged_records_are_errors_for_the_user(
    here: Here, made: tuple[Path, list[Artifact]], tmp_path: Path, which: str
) -> None:
    product, files = made
    copies = {}
    for name, source in (("product", product), ("file", files[0].path)):
        copies[name] = Path(shutil.copy(source, tmp_path))
        shutil.copy(f"{source}.json", tmp_path)
    sidecar = Path(f"{copies[which]}.json")
    whole = json.loads(sidecar.read_text())
    chance = random.Random(0)
    ways = places(whole)
    codes = []
    for way in chance.sample(ways, min(len(ways), 40)):
        content = json.loads(json.dumps(whole))
        part = content
        for key in way[:-1]:
            part = part[key]
        part[way[-1]] = chance.choice((None, "x", [], {}, -1, [None]))
        sidecar.write_text(json.dumps(content))
        result = here("verify", copies["file"], "--against", copies["product"])
        assert "Traceback" not in result.err, (way, part[way[-1]], result.err)
        codes.append(result.code)
    assert set(codes) <= {0, 1, 2, 3}
    assert 1 in codes


def test_a_file_that_lost_its_accuracy(here: Here, made: tuple[Path, list[Artifact]], tmp_path: Path) -> None:
    product, files = made
    model = onnx.load(files[0].path)
    bias = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [3])
    # One class wins everywhere: a third of the images is right.
    bias.CopyFrom(numpy_helper.from_array(np.array([50, 0, 0], np.float32), bias.name))
    path = tmp_path / "broken.onnx"
    onnx.save(model, path)
    files[0].revised(path=path, sha256=sha256_file(path)).save()
    result = here("verify", path, "--against", product)
    assert result.code == 3
    assert "broken.onnx missed its gate: at ONNX fp32, largest logit difference" in result.err
    assert "moved   recall   precision" in result.out
    assert "balanced accuracy" in result.out
    assert "Test image " in result.out


@pytest.mark.parametrize(("option", "value"), [("--max-accuracy-drop", "-1"), ("--min-agreement", "97")])
def test_gates_that_mean_nothing(
    here: Here, made: tuple[Path, list[Artifact]], option: str, value: str
) -> None:
    product, files = made
    result = here("verify", files[0].path, "--against", product, option, value)
    assert result.code == 2
    assert option in result.err


def test_a_changed_file(here: Here, made: tuple[Path, list[Artifact]], tmp_path: Path) -> None:
    product, files = made
    path = tmp_path / files[0].path.name
    path.write_bytes(files[0].path.read_bytes() + b" ")
    path.with_name(path.name + ".json").write_bytes(
        files[0].path.with_name(files[0].path.name + ".json").read_bytes()
    )
    result = here("verify", path, "--against", product)
    assert result.code == 1
    assert "was changed after its sidecar was written" in result.err


def test_an_engine_without_a_gpu(
    here: Here, made: tuple[Path, list[Artifact]], monkeypatch: pytest.MonkeyPatch
) -> None:
    product, files = made
    if len(files) < 2:
        pytest.skip("tensorrt-rtx is not installed")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = here("verify", files[1].path, "--against", product)
    assert result.code == 4
    assert "no CUDA device" in result.err
