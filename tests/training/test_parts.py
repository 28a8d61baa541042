"""Freezing the body or its batch norms, and training the body at a lower rate."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from imf_deploy.data import DataSet
from imf_deploy.distillation.distill import distill, load_distilled
from imf_deploy.errors import UsageError
from imf_deploy.models import ModelSpec, build_model
from imf_deploy.models.head import head_modules
from imf_deploy.settings import DistillSettings, TrainingSettings
from imf_deploy.teaching.teacher import Teacher
from imf_deploy.training.loop import fit
from imf_deploy.training.optimizer import build_optimizer, set_rate
from imf_deploy.training.parts import Parts
from imf_deploy.training.supervised import Supervised

CONFIG = TrainingSettings(epochs=2, batch_size=16, lr=0.05, device="cpu")
State = dict[str, Tensor]


def trained(data: DataSet, place: Path, **fields: Any) -> tuple[State, State]:
    """Return the state of a ``resnet8`` before and after a training."""
    torch.manual_seed(0)
    task = Supervised(build_model(ModelSpec("resnet8", 3, 16)), 0.0)
    before = {name: tensor.clone() for name, tensor in task.module.state_dict().items()}
    config = replace(CONFIG, **fields)
    fit(task, data, config, "a", place / "a.checkpoint", {"fields": str(fields)})
    assert all(parameter.requires_grad for parameter in task.module.parameters())
    return before, task.module.state_dict()


def changed(states: tuple[State, State]) -> set[str]:
    before, after = states
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


EXTRAS = [
    {},
    {"optimizer": "adamw", "lr": 0.001, "decay_norms": False},
    {"ema": 0.9},
    {"grad_accumulation": 2, "clip_grad": 1.0},
    {"train_precision": "bf16"},
]


@pytest.mark.parametrize("extra", EXTRAS)
def test_with_a_frozen_body_only_the_head_changes(
    data: DataSet, tmp_path: Path, extra: dict[str, Any]
) -> None:
    assert changed(trained(data, tmp_path, freeze="body", epochs=1, **extra)) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("extra", EXTRAS)
def test_frozen_norms_keep_statistics_and_factors(
    data: DataSet, tmp_path: Path, extra: dict[str, Any]
) -> None:
    states = trained(data, tmp_path, freeze="norms", epochs=1, **extra)
    network = build_model(ModelSpec("resnet8", 3, 16))
    norms = {name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert changed(states) == {n for n in states[0] if n.rpartition(".")[0] not in norms}


@pytest.mark.parametrize("extra", [{"momentum": 0.0, "weight_decay": 0.0}, {"optimizer": "adamw"}])
def test_the_body_takes_smaller_steps(data: DataSet, tmp_path: Path, extra: dict[str, Any]) -> None:
    # In a first step the gradients are the same, so that steps differ by the factor alone.
    one_step = {"epochs": 1, "batch_size": 48, "warmup": 0.0, "lr": 1e-3, "weight_decay": 0.0, **extra}
    before, whole = trained(data, tmp_path / "1", **one_step)
    _, slow = trained(data, tmp_path / "2", body_lr_factor=0.25, **one_step)
    for name in dict(build_model(ModelSpec("resnet8", 3, 16)).named_parameters()):
        step, smaller = whole[name] - before[name], slow[name] - before[name]
        assert step.any()
        factor = 1.0 if name.startswith("fc.") else 0.25
        assert torch.allclose(smaller, step * factor, rtol=1e-3, atol=1e-7), name


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("decay_norms", [False, True])
def test_every_group_has_its_own_rate(ahead: bool, decay_norms: bool) -> None:
    network = build_model(ModelSpec("resnet8", 3, 16))
    task = Supervised(network, 0.0)
    config = replace(CONFIG, body_lr_factor=0.25, decay_norms=decay_norms)
    optimizer = build_optimizer(network, config, ahead, Parts(task, config, 3).body)
    for rate in (0.5, 0.125):
        set_rate(optimizer, rate)
        rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in network.named_parameters():
            assert rates[id(parameter)] == (rate if name.startswith("fc.") else rate * 0.25)
    assert all(isinstance(group["lr"], Tensor) == ahead for group in optimizer.param_groups)


def test_a_factor_of_one_changes_nothing(data: DataSet, tmp_path: Path) -> None:
    _, usual = trained(data, tmp_path / "1")
    _, same = trained(data, tmp_path / "2", body_lr_factor=1.0, freeze="none")
    assert all(torch.equal(tensor, same[name]) for name, tensor in usual.items())


class Interrupted(Supervised):
    """Stops a training in its second epoch."""

    def losses(self, network: nn.Module, images: Tensor, labels: Tensor, _target: Any) -> dict[str, Tensor]:
        if float(self.progress) >= 0.5:
            raise KeyboardInterrupt
        return super().losses(network, images, labels, _target)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("freeze", ["none", "norms", "body"])
def test_a_training_resumes_bit_for_bit(data: DataSet, tmp_path: Path, optimizer: Any, freeze: Any) -> None:
    config = replace(
        CONFIG, freeze=freeze, body_lr_factor=0.1, optimizer=optimizer, ema=0.9, decay_norms=False
    )
    states = []
    for kinds in ([Supervised], [Interrupted, Supervised]):
        path = tmp_path / f"{len(kinds)}.checkpoint"
        for kind in kinds:
            torch.manual_seed(0)
            task = kind(build_model(ModelSpec("resnet8", 3, 16)), 0.0)
            try:
                fit(task, data, config, "a", path, {})
            except KeyboardInterrupt:
                # What was frozen for the training is trainable again.
                assert all(parameter.requires_grad for parameter in task.module.parameters())
        states.append(task.module.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@pytest.mark.parametrize("freeze", ["body", "norms"])
def test_branches_train_beside_a_frozen_student(
    data: DataSet, teacher: Teacher, tmp_path: Path, freeze: Any
) -> None:
    config = DistillSettings(
        student="resnet8",
        freeze=freeze,
        refit=False,
        **{n: v for n, v in vars(replace(CONFIG, epochs=1)).items() if n != "freeze"},
    )
    made = distill(data, teacher, config, tmp_path / "d.safetensors")
    graph = load_distilled(made).graph
    torch.manual_seed(config.seed)
    fresh = build_model(ModelSpec.for_images("resnet8", 3, 16)).state_dict()
    after = graph.student.state_dict()
    same = {name for name, tensor in after.items() if torch.equal(tensor, fresh[name])}
    norms = {n for n, m in graph.student.named_modules() if isinstance(m, nn.BatchNorm2d)}
    kept = {n for n in after if n.rpartition(".")[0] in norms or (freeze == "body" and n[:3] != "fc.")}
    assert same == kept
    norms_beside = [norm for norm in graph.imf.modules() if isinstance(norm, nn.BatchNorm2d)]
    assert norms_beside
    assert all(norm.num_batches_tracked for norm in norms_beside)


def test_a_network_without_a_head_is_refused(data: DataSet, tmp_path: Path) -> None:
    class Headless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 8, 3)

        def forward(self, images: Tensor) -> Tensor:
            features: Tensor = self.convolution(images).mean((2, 3))
            return features[:, :3]

    for fields in ({"freeze": "body"}, {"body_lr_factor": 0.5}):
        with pytest.raises(UsageError, match="no layer of Headless gives 3 logits"):
            fit(Supervised(Headless(), 0.0), data, replace(CONFIG, **fields), "a", None, {})  # type: ignore[arg-type]
    for freeze in ("none", "norms"):  # these need no head
        fit(Supervised(Headless(), 0.0), data, replace(CONFIG, epochs=1, freeze=freeze), "a", None, {})  # type: ignore[arg-type]


HEADS: Sequence[tuple[str, list[str]]] = [
    ("mobilenetv2", ["classifier.1"]),
    ("resnet8", ["fc"]),
    ("torchvision:squeezenet1_1", ["classifier.1"]),
    ("torchvision:mobilenet_v3_small", ["classifier.3"]),
    ("timm:deit_tiny_distilled_patch16_224", ["head", "head_dist"]),
    ("timm:repvit_m0_9", ["head"]),
]


@pytest.mark.parametrize(("name", "expected"), HEADS)
def test_heads(name: str, expected: list[str]) -> None:
    network = build_model(ModelSpec(name, 7, 224))
    names = {id(module): each for each, module in network.named_modules()}
    assert [names[id(module)] for module in head_modules(network, 7)] == expected
