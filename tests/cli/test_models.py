"""Models, taps and presets as a user names them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from imf_deploy.artifact import load_artifact
from imf_deploy.records.files import DistilledFile
from imf_deploy.records.making import Block

Cli = Callable[..., Any]
Error = Callable[[Any, int], str]

CODE = """
import torchvision
from torch import nn

def student(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
    )

def transformer(num_classes, image_size):
    return torchvision.models.VisionTransformer(
        image_size=image_size, patch_size=4, num_layers=1, num_heads=2, hidden_dim=12, mlp_dim=24,
        num_classes=num_classes,
    )
"""
STUDENT, TEACHER = "my_networks:student", "my_networks:transformer"


@pytest.fixture
def own_code(tmp_path: Path) -> Path:
    """The working folder, with networks in a file."""
    sys.modules.pop("my_networks", None)
    (tmp_path / "my_networks.py").write_text(CODE)
    return tmp_path


def test_networks_of_ones_own_and_a_transformer_that_teaches(
    here: Cli, error: Error, own_code: Path, image_folder: Path
) -> None:
    train = ["--data", image_folder, "--epochs", 1, "--device", "cpu"]
    made = here("train-teacher", *train, "--teacher", TEACHER, "--output", "teacher.safetensors")
    assert made.code == 0, made.err
    refused = here("distill", *train, "--student", STUDENT, "--teacher-weights", "teacher.safetensors")
    assert f"add --teacher {TEACHER}" in error(refused, 2)
    given = ["--teacher", TEACHER, "--teacher-weights", "teacher.safetensors", "--student-taps", "2,4"]
    assert here("distill", *train, "--student", STUDENT, *given, "--output", "run").code == 0
    record = load_artifact(Path("run/distilled.safetensors"), DistilledFile)
    assert record.teacher_features == [Block("encoder", 12, 4, "tokens")] * 2
    assert [block.name for block in record.blocks] == ["2", "4"]

    trust = ["--trust-model", STUDENT]
    for command in ("strip", "qat"):
        assert f"add --trust-model {STUDENT}" in error(here(command, "run/distilled.safetensors"), 2)
    assert here("strip", "run/distilled.safetensors", *trust).code == 0
    product = "run/products/student-imf@1.safetensors"
    assert json.loads(Path(product + ".json").read_text())["model"]["taps"] == ["2"]
    options = ["--precisions", "fp32", "--trt", "off"]
    assert f"add --trust-model {STUDENT}" in error(here("export", product, *options), 2)
    assert here("export", product, *options, *trust).code == 0
    exported = "run/deploy/student-imf@1-fp32.onnx"
    assert f"add --trust-model {STUDENT}" in error(here("verify", exported, "--against", product), 2)
    verified = here("verify", exported, "--against", product, *trust)
    assert verified.code == 0, verified.err


def test_a_student_that_cannot_be_cut_is_refused_before_it_is_trained(
    here: Cli, error: Error, own_code: Path, quick: list[str]
) -> None:
    (own_code / "wayward_networks.py").write_text(
        CODE.replace("import torchvision", "import torch")
        + """
class Wayward(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body, self.head = student(4)[:5], nn.Linear(8, num_classes)
    def forward(self, x):
        y = self.body(x if x.shape[2] > 4 else -x)
        return self.head(y.mean((2, 3)))
"""
    )
    arguments = ["wayward_networks:Wayward" if word == "resnet8" else word for word in quick]
    result = here(*arguments, "--output", "run")
    assert "Use --products plain" in error(result, 1)
    assert not Path("run").exists()


def test_taps_that_are_not_there(here: Cli, error: Error, quick: list[str]) -> None:
    result = here(*quick, "--student-taps", "layer7", "--output", "run")
    assert "has no module 'layer7' to tap" in error(result, 2)


def test_a_preset_gives_what_no_option_does(
    here: Cli, error: Error, image_folder: Path, teacher_file: Path
) -> None:
    preset = ["--preset", "cifar100/resnet56-resnet20"]
    assert "--data cifar100 needs --data-root" in error(here("distill", *preset), 2)
    own = ["--data", image_folder, "--teacher", "resnet8", "--epochs", 1, "--device", "cpu", "--lr", 0.002]
    made = here("distill", *own, *preset, "--teacher-weights", teacher_file, "--output", "run")
    assert made.code == 0, made.err
    record = load_artifact(Path("run/distilled.safetensors"))
    assert record.model["name"] == "cifar:resnet20"
    assert record.teacher["name"] == "resnet8"
    train = record.config
    assert (train["epochs"], train["lr"]) == (1, 0.002)  # options win
    assert (train["lr_schedule"], train["warmup"], train["nesterov"], train["shift"]) == ("step", 0, False, 4)
    assert "cifar100/resnet56-resnet20" in error(here("distill", "--preset", "resnet56"), 2)


def test_a_preset_for_a_teacher_trains_the_teacher(here: Cli, image_folder: Path) -> None:
    preset = ["--preset", "cifar100/wrn-40-2-shufflenetv1"]
    own = ["--teacher", "cifar:wrn-16-1", "--data", image_folder, "--epochs", 1, "--batch-size", 8]
    made = here("train-teacher", *preset, *own, "--device", "cpu", "--output", "t.safetensors")
    assert made.code == 0, made.err
    # The last of a few steps is behind the drops at 5/8 and 3/4 of them, and before that at 7/8.
    assert load_artifact(Path("t.safetensors")).history[0]["lr"] == pytest.approx(0.05 / 100)


IMAGENET = ["--preset", "imagenet/resnet34-resnet18"]


@pytest.mark.parametrize("command", ["train-teacher", "distill", "distill-and-export"])
def test_a_preset_without_data_of_its_own_asks_for_them(here: Cli, error: Error, command: str) -> None:
    said = error(here(command, *IMAGENET, "--output", "out.safetensors"), 2)
    assert "no --data is given" in said
    assert "Give --data FOLDER with train/CLASS" in said
    assert not Path("out.safetensors").exists()


def test_imagenet_s_recipe_with_torchvision_s_own_weights(
    here: Cli, make_images: Callable[..., Path]
) -> None:
    folder = make_images(Path("photos"), {"train": 9, "val": 2}, size=40)
    torch.manual_seed(0)
    own = torchvision.models.resnet34(num_classes=3)
    torch.save(own.state_dict(), "resnet34.pth")
    options = ["--data", folder, "--teacher-weights", "resnet34.pth", "--image-size", 32, "--epochs", 1]
    made = here(
        "distill",
        *IMAGENET,
        *options,
        "--batch-size",
        8,
        "--device",
        "cpu",
        "--output",
        "run",
        "--accept-weak-teacher",
    )
    assert made.code == 0, made.err
    record = load_artifact(Path("run/distilled.safetensors"))
    assert record.model["name"] == "torchvision:resnet18"
    assert record.teacher["name"] == "torchvision:resnet34"
    assert record.data_config["val_fraction"] == 0.01
    train = record.config
    assert (train["augment"], train["weight_decay"], train["warmup"]) == ("crop-flip", 1e-4, 0)
    assert (train["lr_schedule"], train["lr_drops"], train["batch_size"]) == ("step", [0.3, 0.6, 0.9], 8)


def test_a_teacher_of_1000_classes_for_three(here: Cli, error: Error, image_folder: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), "resnet18.pt")
    teacher = ["--teacher", "torchvision:resnet18", "--teacher-weights", "resnet18.pt"]
    said = error(here("distill", "--data", image_folder, *teacher, "--output", "run"), 1)
    assert "resnet18.pt was trained for 1000 classes, but colours has 3 classes" in said
    assert not Path("run").exists()
