"""Training on a GPU; nothing here runs without one."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from imf_deploy.calib.qat import qat
from imf_deploy.data import DataSet
from imf_deploy.data.augment import Augment
from imf_deploy.data.batches import TrainLoader
from imf_deploy.distillation.distill import distill, load_distilled
from imf_deploy.errors import DivergedError
from imf_deploy.models import ModelSpec, build_model
from imf_deploy.settings import DistillSettings, MonitoringSettings, QatSettings, TrainingSettings
from imf_deploy.stripping.stage import strip
from imf_deploy.study import run as study_run
from imf_deploy.study.methods import METHODS
from imf_deploy.study.run import Run
from imf_deploy.study.run import train as train_one
from imf_deploy.teaching.teacher import load_teacher
from imf_deploy.training import capture, loop
from imf_deploy.training.capture import EAGER_STEPS, CapturedStep
from imf_deploy.training.checkpoint import History
from imf_deploy.training.device import choose_device
from imf_deploy.training.loop import fit
from imf_deploy.training.training import Training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CUDA = torch.device("cuda")
SPEC = ModelSpec("resnet8", 3, 16)
CONFIG = TrainingSettings(epochs=4, batch_size=8, lr=0.02, device="cuda")  # five steps an epoch
SETTINGS = {"name": "mine"}
GRAPH = MonitoringSettings(cuda_graph=True)


class Task:
    """Cross-entropy, and whatever else a test wants within a step."""

    progress: float | Tensor = 0.0

    def __init__(
        self, within: Callable[["Task", Tensor], Tensor] | None = None, dropout: float = 0.0
    ) -> None:
        torch.manual_seed(0)
        self.module = torch.nn.Sequential(build_model(SPEC), torch.nn.Dropout(dropout))
        self.within = within
        self.steps = 0
        self.stop = -1

    def targets(self, parts: Sequence[Tensor]) -> list[None]:
        return [None] * len(parts)

    def losses(self, network: torch.nn.Module, images: Tensor, labels: Tensor, _: None) -> dict[str, Tensor]:
        if self.steps == self.stop:
            raise KeyboardInterrupt
        self.steps += 1
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        return {"cross_entropy": self.within(self, loss) if self.within else loss}

    def predict(self, images: Tensor) -> Tensor:
        logits: Tensor = self.module(images)
        return logits


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each training that ends replayed a graph."""
    ends: list[bool] = []

    class Watched(Training):
        def finish(self) -> None:
            ends.append(self._captured is not None and self._captured.captured)
            super().finish()

    monkeypatch.setattr(loop, "Training", Watched)
    return ends


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What trainings say."""
    lines: list[str] = []
    for module in (loop, capture):
        monkeypatch.setattr(module, "say", lines.append)
    return lines


def losses(history: History) -> list[float]:
    return [value for record in history for name, value in record.items() if name != "validation_accuracy"]


RECIPES = {
    "plain": CONFIG,
    "adamw": replace(CONFIG, optimizer="adamw", lr=0.001, decay_norms=False, clip_grad=0.5),
    "averaged": replace(CONFIG, ema=0.9, grad_accumulation=2, keep="best", label_smoothing=0.1),
    "mixed": replace(CONFIG, mixup=0.2, cutmix=1.0, momentum=0.0, clip_grad=1.0),
    "bf16": replace(CONFIG, train_precision="bf16", grad_accumulation=2),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_captured_distillation_loses_what_an_eager_one_does(
    data: DataSet, teacher_file: Path, tmp_path: Path, captured: list[bool], recipe: str
) -> None:
    teacher = load_teacher(teacher_file, "", data, CUDA)
    train = RECIPES[recipe]
    config = DistillSettings(student="resnet8", **vars(train), branch_warmup=0.5, refit=False)
    found = []
    for graph in (True, False):
        path = tmp_path / f"{graph}.safetensors"
        monitoring = MonitoringSettings(cuda_graph=graph, teacher_outputs_gb=0)
        found.append(losses(distill(data, teacher, config, path, monitoring=monitoring).history))
    assert captured == [True, False]
    assert found[0] == pytest.approx(found[1], rel=0.05 if recipe == "bf16" else 0.01, abs=2e-3)


@pytest.mark.parametrize("method", ["kd", "dkd", "fitnet", "crd", "reviewkd", "mlkd-ls"])
def test_rivals_are_captured(
    data: DataSet,
    teacher_file: Path,
    tmp_path: Path,
    captured: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    monkeypatch.setattr(study_run, "ALIKE", replace(study_run.ALIKE, cuda_graph=True))
    teacher = load_teacher(teacher_file, "", data, CUDA)
    train_one(Run.of("resnet8", method, METHODS[method].candidates[0], CONFIG), data, teacher, tmp_path)
    assert captured == [True]


@pytest.mark.parametrize("stop", [3, 12])
@pytest.mark.parametrize("after", ["cuda", "cpu"])
def test_a_training_resumes(data: DataSet, tmp_path: Path, stop: int, after: str) -> None:
    config = replace(CONFIG, ema=0.5, optimizer="adamw", lr=0.001)
    whole = fit(Task(), data, config, "whole", tmp_path / "a.checkpoint", SETTINGS, monitoring=GRAPH)
    cut, path, often = (
        Task(),
        tmp_path / "b.checkpoint",
        MonitoringSettings(checkpoint_minutes=0, cuda_graph=False),
    )
    cut.stop = stop
    with pytest.raises(KeyboardInterrupt):
        fit(cut, data, config, "cut", path, SETTINGS, monitoring=often)
    again = fit(Task(), data, replace(config, device=after), "cut", path, SETTINGS, monitoring=GRAPH)
    assert losses(again) == pytest.approx(losses(whole), rel=0.02, abs=2e-3)


def test_a_captured_training_is_cut_off_and_resumes(
    data: DataSet, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, grad_accumulation=2, ema=0.9)
    whole = fit(Task(), data, config, "whole", tmp_path / "a.checkpoint", SETTINGS, monitoring=GRAPH)

    def stop(line: str) -> None:
        if "epoch 2 of 4" in line:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "say", stop)
        fit(Task(), data, config, "cut", tmp_path / "b.checkpoint", SETTINGS, monitoring=GRAPH)
    again = fit(Task(), data, config, "cut", tmp_path / "b.checkpoint", SETTINGS, monitoring=GRAPH)
    assert any("after epoch 1 of 4" in line for line in said)
    assert losses(again) == pytest.approx(losses(whole), rel=0.01, abs=2e-3)


def test_replays_draw_new_numbers_and_follow_the_seed() -> None:
    step = CapturedStep(lambda images, _: torch.nn.functional.dropout(images).mean()[None], CUDA)
    images, labels = torch.ones(4, 3, 64, 64, device=CUDA), torch.zeros(4, device=CUDA)

    def draws() -> list[float]:
        torch.manual_seed(3)
        return [float(step(images, labels)) for _ in range(8)]

    assert len(set(draws())) == 8
    assert step.captured
    replayed = draws()
    assert len(set(replayed)) == 8
    assert draws() == replayed
    step.release()


def test_a_replay_sees_its_own_batch() -> None:
    step = CapturedStep(lambda images, labels: (images.sum() + labels.sum())[None], CUDA)
    for number in range(8):
        images = torch.full((2, 3, 4, 4), float(number), device=CUDA)
        assert float(step(images, torch.full((2,), number, device=CUDA))) == number * 98
    assert step.captured


def spoil(task: Task, loss: Tensor) -> Tensor:
    done = torch.as_tensor(task.progress, device=loss.device)
    return loss * torch.where(done >= 0.34, torch.nan, 1.0)


@pytest.mark.parametrize("graph", [True, False])
def test_divergence_is_found_and_the_checkpoint_kept(data: DataSet, tmp_path: Path, graph: bool) -> None:
    path = tmp_path / "a.checkpoint"
    monitoring = MonitoringSettings(cuda_graph=graph)
    with pytest.raises(DivergedError, match=r"became nan at step 7 \(epoch 2\)"):
        fit(Task(spoil), data, CONFIG, "a", path, SETTINGS, monitoring=monitoring)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "say", said.append)
        fit(Task(), data, CONFIG, "a", path, SETTINGS, monitoring=monitoring)
    assert any("after epoch 1 of 4" in line for line in said)


def waits(_: Task, loss: Tensor) -> Tensor:
    return loss * (1.0 if float(loss.detach()) > 0 else 2.0)


def draws(_: Task, loss: Tensor) -> Tensor:
    return loss * (0.5 + random.random())


@pytest.mark.parametrize(
    ("within", "why"), [(waits, r"waits for the GPU .*test_cuda\.py, line"), (draws, "on the host .Python.")]
)
def test_a_step_that_cannot_be_captured_says_why_and_trains(
    data: DataSet, tmp_path: Path, captured: list[bool], said: list[str], within: Any, why: str
) -> None:
    history = fit(Task(within, 0.1), data, CONFIG, "a", tmp_path / "a.checkpoint", SETTINGS, monitoring=GRAPH)
    assert captured == [False]
    (line,) = [line for line in said if "without a CUDA graph" in line]
    assert re.search(why, line)
    assert len(history) == 4


def test_fp16_says_why(data: DataSet, tmp_path: Path, captured: list[bool], said: list[str]) -> None:
    config = replace(CONFIG, train_precision="fp16", epochs=1)
    fit(Task(), data, config, "a", tmp_path / "a.checkpoint", SETTINGS, monitoring=GRAPH)
    assert captured == [False]
    assert any("without a CUDA graph: fp16" in line for line in said)


def test_a_capture_that_fails_leaves_the_device_usable(said: list[str]) -> None:
    weight = torch.ones((), device=CUDA)

    def whole(images: Tensor, _: Tensor) -> Tensor:
        weight.add_(1)
        dropped = torch.nn.functional.dropout(images)
        if torch.cuda.is_current_stream_capturing():
            dropped.cpu()
        return dropped.mean()[None]

    step = CapturedStep(whole, CUDA)
    images, labels = torch.ones(4, 3, 64, 64, device=CUDA), torch.zeros(4, device=CUDA)
    values = []
    for number in range(EAGER_STEPS + 3):
        values.append(float(step(images, labels)))
        assert float(weight) == number + 2
    assert step.failure and len(said) == 1
    assert len(set(values)) == len(values)
    torch.manual_seed(0)
    good = CapturedStep(lambda images, _: images.sum()[None], CUDA)
    for _ in range(EAGER_STEPS + 2):
        assert float(good(images, labels)) == images.numel()
    assert good.captured


@pytest.mark.parametrize("augment", [Augment(2), Augment(0, flip=False), Augment(0, crop=True)])
def test_batches_are_those_of_the_cpu(data: DataSet, augment: Augment) -> None:
    loaders = [
        TrainLoader(data.train, data.preprocess, 8, augment, 5, device=torch.device(name))
        for name in ("cpu", "cuda")
    ]
    for first, second in zip(*(loader.viewed_epoch(1, 1) for loader in loaders), strict=True):
        torch.testing.assert_close(second[0].cpu(), first[0], rtol=1e-6, atol=1e-6)
        assert torch.equal(second[1].cpu(), first[1])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_distilling_and_stripping(data: DataSet, teacher_file: Path, tmp_path: Path, precision: str) -> None:
    train = TrainingSettings(epochs=1, batch_size=8, lr=0.02, device="cuda", train_precision=precision)  # type: ignore[arg-type]
    teacher = load_teacher(teacher_file, "", data, choose_device("cuda"))
    made = distill(
        data, teacher, DistillSettings(student="shufflenetv2", **vars(train)), tmp_path / "d.safetensors"
    )
    config = QatSettings(device="cuda")
    tuned = qat(load_distilled(made), data, teacher, config, tmp_path / "q.safetensors")
    for distilled in (made, tuned):
        products = strip(load_distilled(distilled), ["plain", "imf@1"], tmp_path / distilled.path.stem)
        assert all(product.strip.passed for product in products)
