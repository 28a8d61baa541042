"""Networks that no file could reproduce are refused before they are trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from imf_deploy.errors import UsageError
from imf_deploy.models import ModelSpec, build_model, check_behaviour


class Body(nn.Module):
    """A small network, in one of several ways that go wrong."""

    def __init__(self, way: str = "") -> None:
        super().__init__()
        self.way = way
        self.conv, self.norm = (
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.BatchNorm2d(8, track_running_stats=way != "no statistics"),
        )
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(8, 3)
        if way.endswith("asleep"):
            nn.init.zeros_(self.fc.weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "input":
            x.mul_(2).sub_(1)
        if self.way == "copied input":
            x = (x * 1).mul_(2)
        x = self.norm(self.conv(x)).relu_().mean((2, 3))
        if self.way.startswith("functional dropout"):
            x = functional.dropout(x, 0.05)
        if self.way == "noise":
            x = x + 0.01 * torch.randn_like(x)
        if self.way.startswith("mixes"):
            x = x - x.mean(0)
        logits: Tensor = self.fc(self.drop(x))
        if self.way == "zero by zero":
            logits = (logits - logits) / (logits - logits)
        if self.way == "infinite":
            logits = logits.abs() / 0
        return logits.softmax(1) if self.way == "softmax" else logits


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("softmax", "outputs probabilities, not logits"),
        ("input", "changes its input in place"),
        ("functional dropout", "answers differently each time"),
        ("functional dropout asleep", "answers differently each time"),
        ("noise", "answers differently each time"),
        ("no statistics", "depend on the other images of a batch"),
        ("mixes", "depend on the other images of a batch"),
        ("zero by zero", "outputs numbers that are not finite"),
        ("infinite", "outputs numbers that are not finite"),
        ("mixes asleep", "depend on the other images of a batch"),
    ],
)
def test_what_goes_wrong(way: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        check_behaviour(Body(way), 16, "mine:body")
    assert "mine:body" in str(caught.value)


@pytest.mark.parametrize("way", ["", "asleep", "copied input"])
def test_what_is_fine(way: str) -> None:
    model = Body(way)
    model.drop.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    check_behaviour(model, 16, "mine:body")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.training
    assert not model.drop.training


@pytest.mark.parametrize(
    "name",
    ["resnet8", "mobilenetv2", "cifar:shufflenetv1", "timm:resnet10t", "timm:convnext_atto", "googlenet"],
)
def test_networks_of_the_libraries(name: str) -> None:
    check_behaviour(build_model(ModelSpec.for_images(name, 3, 32)), 32, name)


MINE = """
import torch
from torch import nn
from torch.nn import functional


class Drop(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.fc = nn.Linear(8, n)

    def forward(self, x):
        return self.fc(functional.dropout(self.b(self.a(x).relu()).relu().mean((2, 3)), 0.5))


def drop(num_classes):
    return Drop(num_classes)
"""


@pytest.mark.parametrize("command", ["distill", "distill-and-export", "train-teacher", "study"])
def test_before_the_training(
    cli: Callable[..., Any], image_folder: Path, teacher_file: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "cwd" / "mine.py").write_text(MINE)
    role = {"train-teacher": "--teacher", "study": "--students"}.get(command, "--student")
    teacher = [] if command == "train-teacher" else ["--teacher-weights", teacher_file]
    more = ["--trt", "off"] if command == "distill-and-export" else []
    result = cli(command, "--data", image_folder, "--device", "cpu", role, "mine:drop", *teacher, *more)
    assert result.code == 2, result.err
    assert "error: mine:drop answers differently each time in evaluation mode" in result.lines[-1]
    assert "epoch 1" not in result.err
