"""Teachers that are fine-tuned from given weights; tests/pipeline has those of the main job."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from imf_deploy.artifact import load_artifact
from imf_deploy.files import sha256_file
from imf_deploy.models import ModelSpec, build_model, read_weights
from imf_deploy.records.files import TeacherFile
from imf_deploy.settings.starts import TEACHER

Cli = Callable[..., Any]
Error = Callable[[Any, int], str]
FAST = ["--device", "cpu", "--batch-size", "16"]


@pytest.fixture(scope="session")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a ``resnet8`` for seven classes, as another tool saves them."""
    path = tmp_path_factory.mktemp("seven") / "seven.pt"
    torch.manual_seed(3)
    torch.save({"state_dict": build_model(ModelSpec("resnet8", 7, 16)).state_dict()}, path)
    return path


def test_a_teacher_starts_from_weights_of_other_classes(
    here: Cli, image_folder: Path, seven: Path, tmp_path: Path
) -> None:
    output = tmp_path / "teacher.safetensors"
    command = ["train-teacher", "--data", image_folder, "--teacher", "resnet8", "--teacher-weights", seven,
               "--freeze", "body", "--epochs", 1, *FAST]  # fmt: skip
    result = here(*command, "--output", output)
    assert result.code == 0, result.err
    assert "was trained for 7 classes: a new classifier of 3 classes starts" in result.err
    made, started = read_weights(output), torch.load(seven, weights_only=True)["state_dict"]
    body = {name for name in made if not name.startswith("fc.")}
    assert all(torch.equal(made[name], started[name]) for name in body)
    assert made["fc.weight"].shape == (3, started["fc.weight"].shape[1])
    record = load_artifact(output, TeacherFile)
    assert record.starting_weights is not None
    assert (record.starting_weights.source, record.starting_weights.classes) == (str(seven), 7)
    assert record.starting_weights.sha256 == record.parent == sha256_file(seven)
    assert record.config["freeze"] == "body"
    assert record.config["weight_decay"] == TEACHER.defaults["weight_decay"]
    # The content of the weights decides the recipe, not their place.
    (tmp_path / "moved").mkdir()
    moved = seven.rename(tmp_path / "moved" / "other.pt")
    before = output.stat().st_mtime_ns
    again = [moved if word == seven else word for word in command]
    try:
        assert here(*again, "--output", output).code == 0
        assert output.stat().st_mtime_ns == before
    finally:
        moved.rename(seven)


def test_a_head_of_the_same_classes_is_kept(
    here: Cli, image_folder: Path, teacher_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "teacher.safetensors"
    result = here("train-teacher", "--data", image_folder, "--teacher-weights", teacher_file, "--epochs", 1,
                  "--lr", 1e-9, "--output", output, *FAST)  # fmt: skip
    assert result.code == 0, result.err
    assert "classifier" not in result.err
    made, started = read_weights(output), read_weights(teacher_file)
    assert torch.allclose(made["fc.weight"], started["fc.weight"], atol=1e-6)
    record = load_artifact(output, TeacherFile)
    assert record.model == load_artifact(teacher_file).model  # the name is that of the record
    assert record.starting_weights is not None
    assert not record.starting_weights.new_head


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--teacher", "resnet14"], 1, "does not belong to resnet14"),
        (["--teacher", "resnet8", "--weights-key", "ema"], 2, "no weights under --weights-key ema"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_training(
    here: Cli,
    error: Error,
    image_folder: Path,
    seven: Path,
    tmp_path: Path,
    options: Any,
    code: int,
    said: str,
) -> None:
    output = tmp_path / "teacher.safetensors"
    result = here("train-teacher", "--data", image_folder, "--teacher-weights", seven, *options,
                  "--output", output, *FAST)  # fmt: skip
    assert said in error(result, code)
    assert not list(tmp_path.glob("teacher*"))


def test_settings_for_reading_need_weights(here: Cli, error: Error, image_folder: Path) -> None:
    result = here("train-teacher", "--data", image_folder, "--teacher", "resnet8", "--weights-key", "ema")
    assert "--weights-key, --teacher-options and --teacher-stem-strides are for a given teacher" in error(
        result, 2
    )


def test_distill_names_the_command_that_fine_tunes(
    here: Cli, error: Error, image_folder: Path, seven: Path, tmp_path: Path
) -> None:
    result = here("distill", "--data", image_folder, "--student", "resnet8", "--teacher", "resnet8",
                  "--unlabelled", image_folder / "val" / "class0", "--val-fraction", 0.2,
                  "--teacher-weights", seven, "--output", tmp_path / "out", *FAST)  # fmt: skip
    message = error(result, 1)
    assert f"{seven} was trained for 7 classes, but {image_folder.name} has 3 classes" in message
    command = message.partition(": imf-deploy ")[2].partition(";")[0]
    expected = (
        f"train-teacher --data {image_folder} --val-fraction 0.2 --teacher resnet8 --teacher-weights {seven}"
    )
    assert command.startswith(expected)
    assert not (tmp_path / "out").exists()
    assert here(*command.split(), "--epochs", 1, *FAST).code == 0
    assert (tmp_path / "teacher.safetensors").is_file()
