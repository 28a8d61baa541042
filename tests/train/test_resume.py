"""A training that was cut off goes on and ends with the very same weights."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from imf_deploy.data import DataConfig, DataSet, open_data
from imf_deploy.errors import UsageError
from imf_deploy.models import ModelSpec, build_model, read_weights
from imf_deploy.train import loop
from imf_deploy.train.config import TrainConfig
from imf_deploy.train.distill import DistillConfig, distill
from imf_deploy.train.loop import fit
from imf_deploy.train.teacher import (
    TEACHER_TRAINING,
    Teacher,
    TeacherConfig,
    train_classifier,
    train_teacher,
)

CONFIG = TrainConfig(epochs=3, batch_size=16, lr=0.05, device="cpu")
SPEC = ModelSpec("resnet8", 3, 16)


class Task:
    """Cross-entropy, interrupted at a step."""

    def __init__(self, stop: int = -1) -> None:
        torch.manual_seed(0)
        self.module = torch.nn.Sequential(build_model(SPEC), torch.nn.Dropout(0.2))
        self.stop = stop
        self.steps = 0

    def losses(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.steps == self.stop:
            raise KeyboardInterrupt
        self.steps += 1
        return {"cross_entropy": torch.nn.functional.cross_entropy(self.module(images), labels)}

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.module(images)
        return logits


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("stop", [0, 2, 3, 5])  # two steps an epoch
def test_an_interrupted_training_ends_the_same(data: DataSet, tmp_path: Path, stop: int) -> None:
    whole = Task()
    history = fit(whole, data, CONFIG, "whole", tmp_path / "a.checkpoint", "recipe")
    path = tmp_path / "b.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        fit(Task(stop), data, CONFIG, "cut", path, "recipe")
    assert path.exists() == (stop >= 2)
    assert not list(tmp_path.glob(".tmp-*"))
    resumed = Task()
    torch.manual_seed(99)  # what else happened in the process does not matter
    again = fit(resumed, data, CONFIG, "cut", path, "recipe")
    assert resumed.steps == 6 - stop // 2 * 2
    assert equal(resumed.module.state_dict(), whole.module.state_dict())
    assert again == history
    assert [record["epoch"] for record in again] == [1, 2, 3]


def test_random_crops_are_the_same_after_an_interruption(data: DataSet, tmp_path: Path) -> None:
    config = replace(CONFIG, augment="crop-flip")
    whole, resumed, other = Task(), Task(), Task()
    fit(whole, data, config, "whole", tmp_path / "a.checkpoint", "recipe")
    with pytest.raises(KeyboardInterrupt):
        fit(Task(3), data, config, "cut", tmp_path / "b.checkpoint", "recipe")
    fit(resumed, data, config, "cut", tmp_path / "b.checkpoint", "recipe")
    assert equal(resumed.module.state_dict(), whole.module.state_dict())
    fit(other, data, CONFIG, "other", tmp_path / "c.checkpoint", "recipe")
    assert not equal(other.module.state_dict(), whole.module.state_dict())


def test_another_recipe_is_refused_or_starts_over(data: DataSet, tmp_path: Path) -> None:
    path = tmp_path / "a.checkpoint"
    fit(Task(), data, CONFIG, "a", path, "recipe")
    other = Task()
    with pytest.raises(UsageError, match="unfinished training with other settings"):
        fit(other, data, CONFIG, "a", path, "another")
    assert other.steps == 0
    fit(other, data, CONFIG, "a", path, "another", overwrite=True)
    assert other.steps == 6


def test_a_damaged_checkpoint_is_named(data: DataSet, tmp_path: Path) -> None:
    path = tmp_path / "a.checkpoint"
    fit(Task(), data, CONFIG, "a", path, "recipe")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(loop.ImfDeployError, match=r"a\.checkpoint is damaged"):
        fit(Task(), data, CONFIG, "a", path, "recipe")


def test_a_distillation_goes_on(
    data: DataSet, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DistillConfig("resnet8", train=CONFIG)
    whole = distill(data, teacher, config, tmp_path / "whole.safetensors")
    path = tmp_path / "cut.safetensors"
    seen: list[str] = []

    def stop(message: str) -> None:
        seen.append(message)
        if "epoch 2 of 3" in message:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "say", stop)
        distill(data, teacher, config, path)
    assert sorted(p.name for p in tmp_path.glob("cut*")) == ["cut.checkpoint"]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "say", seen.append)
        made = distill(data, teacher, config, path)
    assert any("going on after epoch 1 of 3" in message for message in seen)
    assert made.sha256 == whole.sha256
    assert made.evidence["history"] == whole.evidence["history"]
    assert sorted(p.name for p in tmp_path.glob("cut*")) == ["cut.safetensors", "cut.safetensors.json"]


def kill_at(arguments: list[str], line: str, place: Path, sign: int) -> int:
    """Run a command, send it a signal when it says ``line``, return its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-m", "imf_deploy", *arguments], cwd=place, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for said in process.stderr:
        if line in said:
            os.kill(process.pid, sign)
            break
    process.stderr.read()
    return process.wait(60)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_a_killed_process_goes_on(
    image_folder: Path, data: DataSet, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    path = tmp_path / "cut.safetensors"
    options = ["--data", str(image_folder), "--teacher", "resnet8", "--epochs", "12", "--device", "cpu"]
    command = ["train-teacher", *options, "--output", str(path)]
    assert kill_at(command, "epoch 3 of 12", tmp_path, signal.SIGKILL) == -signal.SIGKILL
    assert not path.exists()
    result = cli(*command)
    assert result.code == 0, result.err
    assert "going on after epoch" in result.err
    training = replace(TEACHER_TRAINING, epochs=12, device="cpu")
    whole = train_teacher(data, TeacherConfig("resnet8", training), tmp_path / "whole.safetensors")
    assert equal(read_weights(path), read_weights(whole.path))


def test_the_same_seed_gives_the_same_file_and_another_seed_another(
    image_folder: Path, data: DataSet, tmp_path: Path
) -> None:
    def made(name: str, seed: int) -> str:
        config = TrainConfig(epochs=1, batch_size=16, lr=0.05, device="cpu", seed=seed)
        opened = open_data(DataConfig(str(image_folder)))
        return train_classifier(SPEC, opened, config, tmp_path / name, "teacher").sha256

    first, same, other = made("a.safetensors", 0), made("b.safetensors", 0), made("c.safetensors", 1)
    assert first == same != other
