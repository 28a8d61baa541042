"""Options of the training, from the command line to the record; and several processes at once."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import preloaded
import pytest

from imf_deploy.artifact import load_artifact
from imf_deploy.records.files import DistilledFile
from imf_deploy.run.folder import SETTINGS

Cli = Callable[..., Any]
Error = Callable[[Any, int], str]
OPTIONS = {
    "optimizer": "adamw", "momentum": 0.8, "weight_decay": 0.02, "label_smoothing": 0.1, "mixup": 0.2,
    "cutmix": 0.5, "ema": 0.9, "clip_grad": 5.0, "grad_accumulation": 2, "keep": "best",
}  # fmt: skip
WORDS = [word for name, value in OPTIONS.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def test_options_reach_the_training(here: Cli, image_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "out" / "teacher.safetensors"
    command = ["train-teacher", "--data", image_folder, "--teacher", "resnet8", "--epochs", "2",
               "--device", "cpu", *WORDS, "--no-decay-norms", "--tensorboard", "--output", path]  # fmt: skip
    result = here(*command)
    assert result.code == 0, result.err
    other = here(*command[:-2], "--checkpoint-minutes", "0", "--output", tmp_path / "other.safetensors")
    assert other.code == 0, other.err
    made = load_artifact(path)
    # Neither decides anything of the result, nor of its recipe.
    again = load_artifact(tmp_path / "other.safetensors")
    assert (made.sha256, made.recipe) == (again.sha256, again.recipe)

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path.parent / "tensorboard" / "teacher")).Reload()
    assert set(events.Tags()["scalars"]) == {"lr", "validation_accuracy", "loss/cross_entropy"}
    history = made.history
    losses = [(point.step, point.value) for point in events.Scalars("loss/cross_entropy")]
    assert losses == [(r["epoch"], pytest.approx(r["cross_entropy"])) for r in history]


def test_the_rate_is_scaled_and_the_speed_reported(
    here: Cli, image_folder: Path, teacher_file: Path, tmp_path: Path
) -> None:
    command = ["distill", "--data", image_folder, "--teacher-weights", teacher_file, "--epochs", "1",
               "--student", "resnet8x0.5", "--batch-size", "16", "--device", "cpu", "--no-refit"]  # fmt: skip
    scaled = here(*command, "--lr", "0.01", "--lr-base-size", "4", "--output", tmp_path / "scaled")
    assert scaled.code == 0, scaled.err
    assert "Learning rate 0.04: 0.01 for 4 images, but a batch has 16" in scaled.err
    assert re.search(r"epoch 1 of 1: .*; [\d,]+ images/s\n", scaled.err)
    given = here(*command, "--lr", "0.04", "--no-cuda-graph", "--output", tmp_path / "given")
    assert given.code == 0, given.err
    made = [load_artifact(tmp_path / name / "distilled.safetensors") for name in ("scaled", "given")]
    assert (made[0].sha256, made[0].recipe) == (made[1].sha256, made[1].recipe)
    assert made[0].revised(path=made[1].path) == made[1]
    refused = here(*command, "--optimizer", "adamw", "--lr-base-size", "4", "--output", tmp_path / "refused")
    assert refused.code == 2
    assert "not of adamw" in refused.err


def test_options_of_the_main_job_are_in_its_record(here: Cli, quick: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = here(*quick, *WORDS, "--batch-size", "16", "--output", out)
    assert result.code in (0, 3), result.err
    config = json.loads((out / "run.json").read_text())["config"]
    assert {name: config["distill"][name] for name in OPTIONS} == OPTIONS
    assert config["teacher"]["grad_accumulation"] == 2
    assert config["teacher"]["optimizer"] == "sgd"
    result = here(*quick, *WORDS, "--ema", "0.5", "--batch-size", "16", "--output", out)
    assert result.code == 2
    assert "other distill.ema" in result.err


def test_heads_are_left_alone_if_asked_for(
    here: Cli, image_folder: Path, teacher_file: Path, tmp_path: Path
) -> None:
    command = ["distill", "--data", image_folder, "--teacher-weights", teacher_file, "--epochs", "1",
               "--student", "resnet8x0.5", "--batch-size", "16", "--device", "cpu"]  # fmt: skip
    fitted = here(*command, "--output", tmp_path / "fitted")
    assert fitted.code == 0, fitted.err
    assert "Heads re-fitted, validation accuracy: plain " in fitted.err
    left = here(*command, "--no-refit", "--output", tmp_path / "left")
    assert left.code == 0, left.err
    assert "Heads re-fitted" not in left.err
    record = load_artifact(tmp_path / "left" / "distilled.safetensors", DistilledFile)
    assert (record.refitted, record.config["refit"]) == ([], False)
    assert "refit: false" in (tmp_path / "left" / SETTINGS).read_text()
    again = here("distill", "--config", tmp_path / "left" / SETTINGS, "--output", tmp_path / "again")
    assert again.code == 0, again.err
    made = [load_artifact(tmp_path / name / "distilled.safetensors").sha256 for name in ("left", "again")]
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ema", "1"], "--ema 1 is out of range"),
        (["--keep", "best", "--val-fraction", "0"], "--keep best needs validation images"),
        (["--grad-accumulation", "40"], "Raise --batch-size"),
        (["--train-precision", "fp16"], "fp16 needs a CUDA device"),
        (["--checkpoint-minutes", "-1"], "--checkpoint-minutes"),
    ],
)
def test_what_cannot_be_trained(
    here: Cli, error: Error, image_folder: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    result = here(
        "train-teacher", "--data", image_folder, "--teacher", "resnet8", "--device", "cpu", *options
    )
    assert said in error(result, 2)
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--log-with", "no-such"], 2, "--log-with has no tracker 'no-such'"),
        (["--log-with", "tensorboard,clearml"], 1, "pip install clearml"),
    ],
)
def test_trackers_that_are_not_there(
    here: Cli, error: Error, quick: list[str], tmp_path: Path, options: list[str], code: int, said: str
) -> None:
    result = here(*quick, *options, "--output", tmp_path / "out")
    assert said in error(result, code)
    assert not (tmp_path / "out").exists()


def launch(arguments: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "imf_deploy", *arguments],
        cwd=place,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip


def test_the_main_job_in_two_processes(quick: list[str], tmp_path: Path) -> None:
    command = [*quick, "--max-accuracy-drop", "100", "--min-agreement", "0", "--output", "out"]
    done = launch(command, tmp_path)
    assert done.returncode == 0, done.stderr
    for line in (
        "Training teacher resnet14: epoch 1",
        "Distilling resnet8: epoch 1",
        "Teacher resnet14:",
        "Heads re-fitted",
    ):
        assert done.stderr.count(line) == 1, done.stderr
    assert done.stdout.count("p50 ms") == 1
    assert json.loads((tmp_path / "out" / "report.json").read_text())["history"][0]["epoch"] == 1
    assert not list((tmp_path / "out").rglob("*.checkpoint"))
    # Taken as they are: nothing is trained again, by either.
    again = preloaded.launch(["-m", "imf_deploy", *command], 2, tmp_path)
    said = preloaded.read_all(again)
    assert [process.wait() for process in again] == [0, 0], said
    assert "epoch 1" not in said


def test_two_processes_complain_once(quick: list[str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("a thesis")
    processes = preloaded.launch(["-m", "imf_deploy", *quick, "--output", "out"], 2, tmp_path)
    said = preloaded.read_all(processes)
    assert [process.wait() for process in processes] == [2, 2], said
    assert said.count("is not empty and holds no run") == 1
    assert (tmp_path / "out" / "mine.txt").read_text() == "a thesis"
