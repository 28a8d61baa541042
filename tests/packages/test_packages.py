"""Packages of a finished run: complete, verified as they lie there, and what other systems read."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imf_deploy.artifact import load_artifact
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.packages.folder import whole_folder
from imf_deploy.packages.stage import TARGETS, package
from imf_deploy.packages.triton import config
from imf_deploy.portability.session import cpu_session
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import EngineFile, OnnxFile
from imf_deploy.settings.package import PackageSettings

MODEL = {"triton": "models/resnet8_imf_1/1/model.onnx"}


@pytest.fixture(scope="session")
def made(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A package for each system. Not to be changed."""
    folder = tmp_path_factory.mktemp("packages")
    return {target: package(finished_run, target, folder / target) for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS)
def test_a_package_is_complete_and_answers_its_vectors(made: dict[str, Path], target: str) -> None:
    folder = made[target]
    listed = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    found = {path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS"}
    assert {folder / name for name in listed} == found
    for name, expected in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
    path = folder / MODEL.get(target, "model.onnx")
    record = load_artifact(path, OnnxFile)
    assert record.verify is not None
    assert record.verify.status == "pass"
    assert record.data_config is None
    vectors = json.loads((folder / "vectors" / "vectors.json").read_text())
    given, wanted = vectors["input"], vectors["output"]
    batch = np.fromfile(folder / "vectors" / given["file"], given["type"]).reshape(given["shape"])
    (logits,) = cpu_session(path).run([wanted["name"]], {given["name"]: batch})
    expected = np.fromfile(folder / "vectors" / wanted["file"], "<f4").reshape(wanted["shape"])
    assert np.abs(logits - expected).max() <= wanted["tolerance"]
    assert logits.argmax(1).tolist() == vectors["classes"]
    assert len(list((folder / "vectors").glob("*.png"))) == len(batch) == 10
    # The pictures are what the tensor was made from.
    picture = record.preprocess.load(Image.open(folder / "vectors" / "4.png"))
    if given["type"] == "uint8":
        np.testing.assert_array_equal(batch[4], picture.transpose(1, 2, 0))
    else:
        np.testing.assert_allclose(batch[4], record.preprocess.normalize_array(picture[None])[0], atol=1e-6)
    assert (folder / "labels.txt").read_text().splitlines() == list(record.preprocess.labels)
    card = (folder / "README.md").read_text()
    assert "resnet8-imf@1" in card
    assert f"| {record.verify.images} |" in card


def test_the_client_of_the_folder_checks_itself(made: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made["directory"], tmp_path / "copy"))
    client = [sys.executable, str(folder / "clients" / "classify.py")]
    done = subprocess.run([*client, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    photo = tmp_path / "photo.jpg"
    Image.effect_noise((90, 60), 80).convert("RGB").save(photo)
    done = subprocess.run([*client, str(photo)], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"{photo}: class"), done.stderr
    damaged = folder / "vectors" / "logits.bin"
    damaged.write_bytes(damaged.read_bytes()[:-4] + np.float32(1e3).tobytes())
    done = subprocess.run([*client, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 1


def test_hugging_face_prepares_images_as_we_do(made: dict[str, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    folder = made["huggingface"]
    record = load_artifact(folder / "onnx" / "model.onnx", OnnxFile)
    preprocess = record.preprocess
    assert (folder / "onnx" / "model_fp16.onnx").is_file()
    assert list(record.inputs) == ["pixel_values"]
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    image = Image.open(folder / "vectors" / "0.png")
    wide = Image.effect_noise((64, 48), 60).convert("RGB")
    for each, allowed in ((image, 1e-5), (wide, 0.03)):
        found = processor(each, return_tensors="np")["pixel_values"]
        expected = preprocess.normalize_array(preprocess.load(each)[None])
        np.testing.assert_allclose(found, expected, atol=allowed)
    about = transformers.AutoConfig.from_pretrained(folder)
    assert list(about.id2label.values()) == list(preprocess.labels)


def test_djl_and_triton_are_told_the_shapes(made: dict[str, Path]) -> None:
    lines = (made["djl"] / "serving.properties").read_text().splitlines()
    told = dict(line.split("=", 1) for line in lines)
    record = load_artifact(made["djl"] / "model.onnx", OnnxFile)
    assert (int(told["width"]), int(told["height"])) == record.preprocess.shape[:0:-1]
    assert [float(value) for value in told["normalize"].split(",")] == pytest.approx(
        [*record.preprocess.mean, *record.preprocess.std], rel=1e-5
    )
    served = load_artifact(made["triton"] / MODEL["triton"], OnnxFile)
    text = (made["triton"] / "models" / "resnet8_imf_1" / "config.pbtxt").read_text()
    dims = ", ".join(map(str, served.inputs["images"][1:]))
    assert f"data_type: TYPE_UINT8 dims: [ {dims} ] }}" in text
    assert f"dims: [ {len(served.preprocess.labels)} ]" in text
    engine = EngineFile(
        **{name: getattr(record, name) for name in ("path", "sha256", "parent", "recipe", "model")},
        preprocess=record.preprocess,
        inputs=record.inputs,
        outputs=record.outputs,
        format="tensorrt",
        targets=[],
        batch="1:4:16",
    )
    assert 'platform: "tensorrt_plan"\nmax_batch_size: 16' in config("net", engine)


def test_a_package_is_written_whole_or_not_at_all(made: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "new", False) as folder:
        (folder / "part").touch()
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    other = tmp_path / "mine"
    other.mkdir()
    with pytest.raises(UsageError, match="not a package"), whole_folder(other, True):
        raise AssertionError
    copy = Path(shutil.copytree(made["djl"], tmp_path / "copy"))
    with pytest.raises(UsageError, match=r"already exists.*`overwrite`"), whole_folder(copy, False):
        raise AssertionError
    with whole_folder(copy, True) as folder:
        (folder / "README.md").write_text("new")
    assert sorted(path.name for path in copy.iterdir()) == ["README.md", "SHA256SUMS"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "mine"]


def damaged(run: Path, tmp_path: Path, **changes: Any) -> Path:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    content = json.loads((copy / "report.json").read_text())
    for row in content["artifacts"]:
        row.update(changes)
    (copy / "report.json").write_text(json.dumps(content))
    return copy


def test_failed_missing_and_changed_files_are_refused(finished_run: Path, tmp_path: Path) -> None:
    for wanted, told in (
        (PackageSettings(product="plain"), "no ONNX file of the product 'plain'.*imf@1"),
        (PackageSettings(precision="int8"), "no int8 ONNX file of imf@1.*fp32 or fp16"),
    ):
        with pytest.raises(UsageError, match=told):
            package(finished_run, "djl", tmp_path / "out", wanted)
    with pytest.raises(UsageError, match="cannot have `precision` fp16"):
        package(finished_run, "huggingface", tmp_path / "out", PackageSettings(precision="fp16"))
    with pytest.raises(UsageError, match="no folder"):
        package(tmp_path / "none", "djl")
    run = damaged(finished_run, tmp_path, status="fail", reason="too bad")
    with pytest.raises(UsageError, match=r"missed its gate: too bad.*`allow_failed`"):
        package(run, "djl", tmp_path / "out")
    allowed = package(run, "djl", tmp_path / "out", PackageSettings(allow_failed=True))
    assert "**missed its gate**: too bad" in (allowed / "README.md").read_text()
    shutil.rmtree(allowed)
    shutil.rmtree(run)
    run = damaged(finished_run, tmp_path, sha256="0" * 64)
    with pytest.raises(ImfDeployError, match="made after the report"):
        package(run, "djl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(finished_run: Path, tmp_path: Path, cli: Any) -> None:
    done = cli("package", finished_run, "--for", "djl", "--output", tmp_path / "out", "--precision", "fp16")
    assert done.code == 0, done.err
    assert "see README.md" in done.err + done.out
    assert load_artifact(tmp_path / "out" / "model.onnx", OnnxFile).precision == "fp16"
    assert isinstance(load_artifact(tmp_path / "out" / "model.onnx").preprocess, Preprocess)
