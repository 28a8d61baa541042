"""Options of a recipe: averages, groups, mixtures, and which weights are kept."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from imf_deploy.data import DataSet
from imf_deploy.data.evaluate import accuracy_of
from imf_deploy.distillation.distill import distill
from imf_deploy.distillation.imf_task import ImfTask
from imf_deploy.models import ModelSpec, build_model
from imf_deploy.settings import DistillSettings, TrainingSettings
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training.ema import Ema
from imf_deploy.training.loop import fit
from imf_deploy.training.mixing import mixing
from imf_deploy.training.optimizer import build_optimizer

CPU = torch.device("cpu")
CONFIG = TrainingSettings(epochs=4, batch_size=16, lr=0.05, device="cpu")


class Task:
    """Cross-entropy that records what is trained on."""

    progress = 0.0

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = build_model(ModelSpec("resnet8", 3, 16))
        self.labels: list[torch.Tensor] = []
        self.counts: list[int] = []

    def targets(self, parts: Sequence[torch.Tensor]) -> list[None]:
        self.counts.append(len(parts))
        return [None] * len(parts)

    def losses(
        self, network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, _target: None
    ) -> dict[str, torch.Tensor]:
        self.labels.append(labels)
        return {"cross_entropy": torch.nn.functional.cross_entropy(network(images), labels)}

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.module(images)
        return logits


def run(data: DataSet, place: Path, **fields: Any) -> tuple[Task, list[dict[str, float]]]:
    task = Task()
    return task, fit(
        task, data, replace(CONFIG, **fields), "a", place / "a.checkpoint", {"fields": str(fields)}
    )


def test_an_average_by_hand() -> None:
    module = torch.nn.BatchNorm1d(2)
    ema = Ema(module, 0.5)
    expected = module.weight.detach().clone()
    for step in range(20):
        with torch.no_grad():
            module.weight += step
            module.num_batches_tracked += 1
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.weight.detach()
    assert torch.allclose(ema.state["weight"], expected)
    assert ema.state["num_batches_tracked"] == 20
    own = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with ema.in_place_of(module):
        assert torch.equal(module.weight, ema.state["weight"])
    assert all(torch.equal(tensor, own[name]) for name, tensor in module.state_dict().items())


def test_the_average_is_measured_and_kept(data: DataSet, tmp_path: Path) -> None:
    plain, _ = run(data, tmp_path / "plain")
    task, history = run(data, tmp_path / "ema", ema=0.9)
    assert not torch.equal(task.module.fc.weight, plain.module.fc.weight)
    task.module.eval()
    assert history[-1]["validation_accuracy"] == accuracy_of(
        task.predict, data.validation, data.preprocess, CPU
    )


def test_the_best_epoch_is_kept(data: DataSet, tmp_path: Path) -> None:
    # A rate that never falls, and far too large: accuracy goes up and down.
    wild = {"lr": 1.0, "lr_schedule": "constant", "epochs": 8, "seed": 3}
    last, history = run(data, tmp_path / "last", **wild)
    best, same = run(data, tmp_path / "best", keep="best", **wild)
    assert [r["validation_accuracy"] for r in history] == [r["validation_accuracy"] for r in same]
    accuracies = [record["validation_accuracy"] for record in history]
    assert accuracies[-1] < max(accuracies)
    for task, accuracy in ((last, accuracies[-1]), (best, max(accuracies))):
        assert accuracy_of(task.predict, data.validation, data.preprocess, CPU) == accuracy


def test_biases_and_norms_are_left_alone_where_asked() -> None:
    module = build_model(ModelSpec("resnet8", 3, 16))
    for config in (CONFIG, replace(CONFIG, decay_norms=False), replace(CONFIG, optimizer="adamw")):
        groups = build_optimizer(module, config).param_groups
        decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        assert len(decays) == len(list(module.parameters()))
        free = {name for name, p in module.named_parameters() if not decays[id(p)]}
        vectors = {name for name, p in module.named_parameters() if p.ndim == 1}
        assert free == (set() if config.decay_norms else vectors)


def test_parts_of_a_batch_give_the_gradient_of_the_whole(data: DataSet, tmp_path: Path) -> None:
    class Still(Task):
        def __init__(self) -> None:
            super().__init__()
            self.module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 3))

    tasks = []
    for parts in (1, 3):
        task = Still()
        config = replace(CONFIG, grad_accumulation=parts, lr=0.001)
        fit(task, data, config, "a", tmp_path / f"{parts}.checkpoint", {})
        tasks.append(task)
    whole, divided = tasks
    assert set(divided.counts) == {3}
    assert {len(labels) for labels in divided.labels} == {5, 6}  # of 16
    for a, b in zip(whole.module.parameters(), divided.module.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_clipped_gradient_has_its_norm(data: DataSet, tmp_path: Path) -> None:
    fields = {"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "epochs": 1, "batch_size": 64, "warmup": 0.0}
    before = torch.cat([p.detach().flatten() for p in Task().module.parameters()])
    task, _ = run(data, tmp_path, clip_grad=0.01, **fields)
    change = torch.cat([p.detach().flatten() for p in task.module.parameters()]) - before
    assert float(change.norm()) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("fields", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_images_are_mixed_with_the_one_before(fields: dict[str, float]) -> None:
    mix = mixing(replace(CONFIG, **fields), 5)  # type: ignore[arg-type]
    assert mix is not None
    images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 8, 8).clone()
    for step in range(8):
        mixed, labels = mix(images, torch.arange(5), step)
        assert mixed.shape == (4, 3, 8, 8)
        assert labels.shape == (4, 5)
        # What an image holds of its own and of the one before is what its label says.
        assert torch.allclose(mixed.mean((1, 2, 3)), labels @ torch.arange(5.0), atol=1e-5)
        for index in range(4):
            others = [c for c in range(5) if c not in (index, index + 1)]
            assert labels[index, others].abs().sum() == 0
        again, _ = mix(images, torch.arange(5), step)
        assert torch.equal(mixed, again)
        part, _ = mix(images[2:], torch.arange(5)[2:], step)
        assert torch.allclose(part, mixed[2:])


def test_mixing_leaves_other_random_numbers_alone(data: DataSet, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    mix = mixing(replace(CONFIG, mixup=0.4), 3)
    assert mix is not None
    mix(torch.rand(3, 3, 4, 4, generator=torch.Generator()), torch.arange(3), 0)
    assert torch.equal(torch.rand(3), expected)
    task, _ = run(data, tmp_path, mixup=0.4, epochs=1)
    assert all(labels.shape == (16, 3) for labels in task.labels)
    assert all(torch.allclose(labels.sum(1), torch.ones(16)) for labels in task.labels)


def test_the_teacher_sees_the_mixed_images(
    data: DataSet, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[torch.Tensor] = []
    learned: list[torch.Tensor] = []
    targets, losses = ImfTask.targets, ImfTask.losses

    def watch_targets(self: ImfTask, parts: Sequence[torch.Tensor]) -> Any:
        taught.extend(parts)
        return targets(self, parts)

    def watch_losses(
        self: ImfTask, network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, target: Any
    ) -> dict[str, torch.Tensor]:
        learned.append(images)
        assert labels.shape == (len(images), 3)
        return losses(self, network, images, labels, target)

    monkeypatch.setattr(ImfTask, "targets", watch_targets)
    monkeypatch.setattr(ImfTask, "losses", watch_losses)
    config = DistillSettings(
        student="resnet8", **vars(replace(CONFIG, epochs=1, cutmix=1.0, label_smoothing=0.1))
    )
    distill(data, teacher, config, tmp_path / "d.safetensors")
    assert len(taught) == 2
    assert all(torch.equal(a, b) for a, b in zip(taught, learned, strict=True))
