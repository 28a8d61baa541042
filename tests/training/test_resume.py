"""An interrupted training resumes and ends with the same weights."""

import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import preloaded
import pytest
import torch
from safetensors.torch import load_file

from imf_deploy.data import DataSet, open_data
from imf_deploy.distillation import refit
from imf_deploy.distillation.distill import distill
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.models import ModelSpec, build_model, read_weights
from imf_deploy.settings import (
    DataSettings,
    DistillSettings,
    MonitoringSettings,
    TeacherSettings,
    TrainingSettings,
)
from imf_deploy.teaching.teacher import Teacher, train_teacher
from imf_deploy.training import loop
from imf_deploy.training.loop import fit
from imf_deploy.training.supervised import train_classifier

CONFIG = TrainingSettings(epochs=3, batch_size=16, lr=0.05, device="cpu")
SPEC = ModelSpec("resnet8", 3, 16)
SETTINGS = {"name": "mine"}


class Task:
    """Cross-entropy, interrupted at a step."""

    progress = 0.0

    def __init__(self, stop: int = -1) -> None:
        torch.manual_seed(0)
        self.module = torch.nn.Sequential(build_model(SPEC), torch.nn.Dropout(0.2))
        self.stop = stop
        self.steps = 0

    def targets(self, parts: Sequence[torch.Tensor]) -> list[None]:
        if self.steps == self.stop:
            raise KeyboardInterrupt
        self.steps += 1
        return [None] * len(parts)

    def losses(
        self, network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, _target: None
    ) -> dict[str, torch.Tensor]:
        return {"cross_entropy": torch.nn.functional.cross_entropy(network(images), labels)}

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.module(images)
        return logits


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "adamw": {
        "optimizer": "adamw",
        "lr": 0.002,
        "decay_norms": False,
        "clip_grad": 0.5,
        "lr_schedule": "step",
    },
    "averaged": {"ema": 0.9, "grad_accumulation": 2, "keep": "best", "label_smoothing": 0.1},
    "mixed": {"mixup": 0.2, "cutmix": 1.0, "ema": 0.5, "lr_schedule": "constant", "optimizer": "adamw"},
    "balanced": {"balance": "sampling", "augment": "crop-flip"},
    "bf16": {"train_precision": "bf16", "momentum": 0.0},
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("stop", "minutes"), [(0, 60), (2, 60), (3, 0), (5, 60)])  # two steps an epoch
def test_an_interrupted_training_ends_the_same(
    data: DataSet, tmp_path: Path, stop: int, minutes: float, recipe: str
) -> None:
    config = replace(CONFIG, **RECIPES[recipe])
    whole = Task()
    history = fit(whole, data, config, "whole", tmp_path / "a.checkpoint", SETTINGS)
    path = tmp_path / "b.checkpoint"
    monitoring = MonitoringSettings(checkpoint_minutes=minutes)
    with pytest.raises(KeyboardInterrupt):
        fit(Task(stop), data, config, "cut", path, SETTINGS, monitoring=monitoring)
    assert path.exists() == (stop >= 2)
    assert not list(tmp_path.glob(".tmp-*"))
    resumed = Task()
    torch.manual_seed(99)  # what else happened in the process does not matter
    again = fit(resumed, data, config, "cut", path, SETTINGS, monitoring=monitoring)
    assert resumed.steps == 6 - (stop if minutes == 0 else stop // 2 * 2)
    assert equal(resumed.module.state_dict(), whole.module.state_dict())
    assert again == history
    assert [record["epoch"] for record in again] == [1, 2, 3]


def test_every_step_can_be_the_last(data: DataSet, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=2, batch_size=8, ema=0.9)  # five steps an epoch
    whole, path = Task(), tmp_path / "b.checkpoint"
    history = fit(whole, data, config, "whole", tmp_path / "a.checkpoint", SETTINGS)
    monitoring = MonitoringSettings(checkpoint_minutes=0)
    for _ in range(9):
        with pytest.raises(KeyboardInterrupt):
            fit(Task(stop=1), data, config, "cut", path, SETTINGS, monitoring=monitoring)
    resumed = Task()
    assert fit(resumed, data, config, "cut", path, SETTINGS, monitoring=monitoring) == history
    assert equal(resumed.module.state_dict(), whole.module.state_dict())
    assert resumed.steps == 1


def test_random_crops_are_the_same_after_an_interruption(data: DataSet, tmp_path: Path) -> None:
    config = replace(CONFIG, augment="crop-flip")
    whole, resumed, other = Task(), Task(), Task()
    fit(whole, data, config, "whole", tmp_path / "a.checkpoint", SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        fit(Task(3), data, config, "cut", tmp_path / "b.checkpoint", SETTINGS)
    fit(resumed, data, config, "cut", tmp_path / "b.checkpoint", SETTINGS)
    assert equal(resumed.module.state_dict(), whole.module.state_dict())
    fit(other, data, CONFIG, "other", tmp_path / "c.checkpoint", SETTINGS)
    assert not equal(other.module.state_dict(), whole.module.state_dict())


def test_other_settings_are_named_or_started_over(data: DataSet, tmp_path: Path) -> None:
    path = tmp_path / "a.checkpoint"
    first = {"teacher": "abc", "config": {"train": {"lr": 0.1, "drops": (0.5,)}, "student": "resnet8"}}
    fit(Task(), data, CONFIG, "a", path, first)
    other = Task()
    second = {"teacher": "abc", "config": {"train": {"lr": 0.2, "drops": (0.5,)}, "student": "resnet14"}}
    with pytest.raises(UsageError, match=r"other settings \(config\.student, config\.train\.lr\)"):
        fit(other, data, CONFIG, "a", path, second)
    assert other.steps == 0
    fit(other, data, CONFIG, "a", path, second, overwrite=True)
    assert other.steps == 6


@pytest.mark.parametrize("length", [0, 5, 1000, -1])
def test_a_damaged_checkpoint_is_named(data: DataSet, tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.checkpoint"
    fit(Task(), data, CONFIG, "a", path, SETTINGS)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ImfDeployError, match=r"a\.checkpoint is damaged"):
        fit(Task(), data, CONFIG, "a", path, SETTINGS)


def test_a_checkpoint_is_safetensors_and_runs_no_code(data: DataSet, tmp_path: Path) -> None:
    path = tmp_path / "a.checkpoint"
    fit(Task(), data, replace(CONFIG, ema=0.9, optimizer="adamw"), "a", path, SETTINGS)
    names = set(load_file(path))
    assert {name.split("/")[0] for name in names} == {"module", "optimizer", "ema"}
    weights = {name for name in names if name.startswith("module/")}
    assert weights == {f"module/{name}" for name in Task().module.state_dict()}


def test_a_distillation_goes_on(
    data: DataSet, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DistillSettings(student="resnet8", **vars(CONFIG))
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
    assert any("resuming after epoch 1 of 3" in message for message in seen)
    assert made.sha256 == whole.sha256
    assert made.history == whole.history
    assert made.refitted == whole.refitted
    assert sorted(p.name for p in tmp_path.glob("cut*")) == ["cut.safetensors", "cut.safetensors.json"]


def test_a_distillation_that_ends_while_heads_are_fitted_goes_on(
    data: DataSet, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DistillSettings(student="resnet8", **vars(replace(CONFIG, epochs=1, ema=0.9)))
    whole = distill(data, teacher, config, tmp_path / "whole.safetensors")
    fitted, calls = refit.refit, []

    def stop(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fitted(*arguments)

    path = tmp_path / "cut.safetensors"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(refit, "refit", stop)
        distill(data, teacher, config, path)
    assert sorted(p.name for p in tmp_path.glob("cut*")) == ["cut.checkpoint"]
    torch.manual_seed(99)
    made = distill(data, teacher, config, path)
    assert made.sha256 == whole.sha256
    assert made.refitted == whole.refitted != []


def kill_at(arguments: list[str], line: str, place: Path, sign: int) -> int:
    """Run a command, send it a signal when it says ``line``, return its exit code."""
    process = preloaded.start(["-m", "imf_deploy", *arguments], cwd=place, stderr=subprocess.PIPE)
    assert process.stderr is not None
    for said in process.stderr:
        if line in said:
            process.send_signal(sign)
            break
    process.stderr.read()
    return process.wait(60)


KILLED: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (
        ["--optimizer", "adamw", "--lr", "0.002", "--ema", "0.9", "--grad-accumulation", "2",
         "--batch-size", "8", "--checkpoint-minutes", "0"],
        {"optimizer": "adamw", "lr": 0.002, "ema": 0.9, "grad_accumulation": 2, "batch_size": 8},
    ),
]  # fmt: skip


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
@pytest.mark.parametrize(("more", "fields"), KILLED)
def test_a_killed_process_goes_on(
    image_folder: Path,
    data: DataSet,
    tmp_path: Path,
    cli: Callable[..., Any],
    more: list[str],
    fields: dict[str, Any],
) -> None:
    path = tmp_path / "cut.safetensors"
    options = ["--data", str(image_folder), "--teacher", "resnet8", "--epochs", "12", "--device", "cpu"]
    command = ["train-teacher", *options, *more, "--output", str(path)]
    assert kill_at(command, "epoch 3 of 12", tmp_path, signal.SIGKILL) == -signal.SIGKILL
    assert not path.exists()
    result = cli(*command)
    assert result.code == 0, result.err
    assert "resuming after epoch" in result.err
    training = TeacherSettings(epochs=12, device="cpu", **fields)
    whole = train_teacher(data, replace(training, teacher="resnet8"), tmp_path / "whole.safetensors")
    assert equal(read_weights(path), read_weights(whole.path))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_a_killed_distillation_goes_on_with_what_its_teacher_said(
    image_folder: Path,
    data: DataSet,
    teacher: Teacher,
    teacher_file: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
) -> None:
    out = tmp_path / "cut"
    command = ["distill", "--data", str(image_folder), "--teacher-weights", str(teacher_file),
               "--student", "resnet8", "--epochs", "8", "--batch-size", "8", "--augment", "none",
               "--checkpoint-minutes", "0", "--device", "cpu", "--output", str(out)]  # fmt: skip
    assert kill_at(command, "epoch 2 of 8", tmp_path, signal.SIGKILL) == -signal.SIGKILL
    assert (out / "distilled.teacher-outputs").is_file()
    result = cli(*command)
    assert result.code == 0, result.err
    assert "resuming after epoch" in result.err
    assert not (out / "distilled.teacher-outputs").exists()
    train = TrainingSettings(epochs=8, batch_size=8, augment="none", device="cpu")
    whole = distill(
        data, teacher, DistillSettings(student="resnet8", **vars(train)), tmp_path / "whole.safetensors"
    )
    assert equal(read_weights(out / "distilled.safetensors"), read_weights(whole.path))


def test_the_same_seed_gives_the_same_file_and_another_seed_another(
    image_folder: Path, data: DataSet, tmp_path: Path
) -> None:
    def made(name: str, seed: int) -> str:
        config = TrainingSettings(epochs=1, batch_size=16, lr=0.05, device="cpu", seed=seed)
        opened = open_data(DataSettings(str(image_folder)))
        return train_classifier(SPEC, opened, config, tmp_path / name, "teacher").sha256

    first, same, other = made("a.safetensors", 0), made("b.safetensors", 0), made("c.safetensors", 1)
    assert first == same != other
