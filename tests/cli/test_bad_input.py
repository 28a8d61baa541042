"""Every mistake ends in one line that says what to do, the right exit code, and no file."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from imf_deploy.models import ModelSpec, build_model

Cli = Callable[..., Any]
Error = Callable[[Any, int], str]


@pytest.fixture
def folder(image_folder: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(image_folder, tmp_path / "data"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def spoil_nothing(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        path.unlink()


def spoil_classes(folder: Path) -> None:
    (folder / "val" / "class1").rename(folder / "val" / "other")


def spoil_one_class(folder: Path) -> None:
    for name in ("class1", "class2"):
        shutil.rmtree(folder / "train" / name)


def spoil_image(folder: Path) -> None:
    (folder / "val" / "class2" / "01.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_nothing, "no usable images"),
        (spoil_one_class, "one class only"),
        (spoil_image, "val/class2/01.png"),
        (spoil_classes, "surplus: ['other']"),
    ],
)
def test_a_folder_that_cannot_be_used(
    here: Cli, error: Error, folder: Path, out: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(folder)
    result = here("distill-and-export", "--data", folder, "--output", out)
    assert said in error(result, 1)
    assert len(result.lines) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--student", "mobilenet2"], "mobilenetv2"),
        (["--data", "nowhere"], "neither a folder nor"),
        (["--products", "imf@9"], "imf@9"),
        (["--precisions", "int4"], "int4"),
        (["--batch", "4:2:1"], "4:2:1"),
        (["--batch", "1,1"], "'1,1'"),
        (["--builder-level", "6"], "--builder-level"),
        (["--workspace", "0"], "--workspace"),
        (["--timing-cache", "/"], "--timing-cache"),
        (["--hardware-compatible", "hopper"], "--hardware-compatible"),
        (["--trt", "rtx", "--strip-weights"], "--strip-weights is an option of the full TensorRT"),
        (["--stem-strides", "1,3"], "--stem-strides"),
        (["--epochs", "0"], "--epochs"),
        (["--temperature", "0"], "--temperature"),
        (["--teacher-epochs", "0"], "--teacher-epochs 0 is out of range"),
        (["--teacher", "resnet8000"], "resnet8000"),
        (["--teacher-weights", "missing.safetensors"], "missing.safetensors"),
        (["--val-fraction", "1"], "--val-fraction"),
        (["--image-size", "-3"], "--image-size"),
        (["--seed", "-1"], "--seed"),
        (["--bench-seconds", "-1"], "--bench-seconds"),
        (["--labels", "missing.csv"], "the table missing.csv does not exist"),
        (["--labels", "labels.csv", "--data", "cifar10"], "--labels labels.csv is for a folder of images"),
        (["--unlabelled", "missing"], "--unlabelled missing is not a folder"),
        (["--balance", "classes"], "--balance"),
        (["--qat-epochs", "1"], "Use --precisions fp32,int8"),
        (["--qat-epochs", "-1", "--precisions", "int8"], "--qat-epochs -1"),
    ],
)
def test_an_option_that_cannot_be_used(
    here: Cli, error: Error, quick: list[str], out: Path, options: list[str], said: str
) -> None:
    result = here(*quick, *options, "--output", out)
    assert said in error(result, 2)
    assert len([line for line in result.lines if ": epoch 1 of" in line]) == 0  # before any training


class Hostile:
    """Unpickling it makes a folder in the working folder."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("it-ran",)


def another_model(path: Path) -> None:
    torch.save(build_model(ModelSpec("resnet14", 3, 16)).state_dict(), path)


def truncated(path: Path) -> None:
    torch.save(build_model(ModelSpec("resnet8", 3, 16)).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-999])


def hostile(path: Path) -> None:
    path.write_bytes(pickle.dumps({"fc.weight": Hostile()}))


@pytest.mark.parametrize(
    ("write", "said"),
    [(another_model, "unknown: layer1.1.conv1.weight"), (truncated, "damaged"), (hostile, "was refused")],
)
def test_teacher_weights_that_cannot_be_used(
    here: Cli,
    error: Error,
    quick: list[str],
    tmp_path: Path,
    out: Path,
    write: Callable[[Path], None],
    said: str,
) -> None:
    write(tmp_path / "w.pt")
    result = here(*quick, "--teacher", "resnet8", "--teacher-weights", tmp_path / "w.pt", "--output", out)
    assert said in error(result, 1)
    assert not list(tmp_path.rglob("it-ran"))
    assert {path.name for path in out.rglob("*")} <= {"run.json", "config.yaml"}


def test_a_process_that_fails(cli: Cli, error: Error, folder: Path, out: Path, tmp_path: Path) -> None:
    """What the tests around this one see in their own process, from outside."""
    spoil_image(folder)
    result = cli("distill-and-export", "--data", folder, "--output", out)
    assert "val/class2/01.png" in error(result, 1)
    assert result.out == ""
    hostile(tmp_path / "w.pt")
    result = cli("distill", "--teacher", "resnet8", "--teacher-weights", tmp_path / "w.pt", "--output", out)
    assert "was refused" in error(result, 1)
    assert len(result.lines) == 1
    assert not list(tmp_path.rglob("it-ran"))
    assert not out.exists()


def test_the_mended_command_is_no_other_run(
    here: Cli, error: Error, quick: list[str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    result = here(*quick, "--teacher-weights", "missing.safetensors", "--output", out)
    assert "missing.safetensors" in error(result, 2)
    monkeypatch.setattr("imf_deploy.pipeline.job.obtain_teacher", stop)
    assert here(*quick, "--output", out).code == 130


@pytest.mark.parametrize("command", ["qat", "strip", "export"])
def test_a_stage_s_input_that_is_not_there(here: Cli, error: Error, command: str) -> None:
    assert "gone.safetensors" in error(here(command, "gone.safetensors"), 1)


def test_a_stage_s_input_of_another_kind(here: Cli, error: Error, teacher_file: Path) -> None:
    for command in ("qat", "strip"):
        assert "is a teacher, not a distilled student" in error(here(command, teacher_file), 1)
    assert "is a teacher, not a stripped student" in error(here("export", teacher_file), 1)


def test_weights_under_a_name_of_another_format(here: Cli, error: Error, image_folder: Path) -> None:
    result = here("train-teacher", "--data", image_folder, "--output", "teacher.pt")
    assert ".safetensors" in error(result, 2)
