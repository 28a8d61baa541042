"""A teacher that is weak or used wrongly is detected before the training."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from imf_deploy.data import DataSet, open_data
from imf_deploy.data.evaluate import accuracy_of
from imf_deploy.models import ModelSpec, build_model
from imf_deploy.settings import DataSettings, GivenTeacher
from imf_deploy.teaching.teacher import Teacher, find_teacher
from imf_deploy.teaching.weak_teacher import check_teacher, weak_teacher

Here = Callable[..., Any]
Error = Callable[[Any, int], str]


@pytest.fixture
def options(image_folder: Path) -> list[Any]:
    data = ["--data", image_folder, "--device", "cpu", "--epochs", 1, "--no-refit", "--batch-size", 24]
    return [*data, "--student", "resnet8", "--output", "run"]


def test_a_teacher_that_knows_nothing_is_refused(
    here: Here, error: Error, options: list[Any], tmp_path: Path
) -> None:
    teacher = build_model(ModelSpec.for_images("resnet14", 3, 16))
    torch.nn.init.zeros_(teacher.fc.weight)  # one answer for every picture
    torch.save(teacher.state_dict(), "weights.pt")
    named = ["--teacher", "resnet14", "--teacher-weights", "weights.pt"]
    told = error(here("distill", *options, *named), 2)
    assert "the teacher resnet14 is suspect: 33.3% of 48 images is not clearly better than chance" in told
    assert told.endswith("add --accept-weak-teacher.")
    assert not (tmp_path / "run").exists()
    told = error(here("study", *options[:6], "--students", "resnet8", *named, "--output", "study"), 2)
    assert "is suspect" in told
    assert "is suspect" in error(here("distill-and-export", *options, *named, "--trt", "off"), 2)
    result = here("distill", *options, *named, "--accept-weak-teacher")
    assert result.code == 0, result.err
    assert "The teacher resnet14 is suspect" in result.err
    assert "The teacher (33.33%) is no better than the student" in result.err


MINE = """
import torch


class Colours(torch.nn.Sequential):
    def __init__(self):
        layers = [torch.nn.Conv2d(3, 3, 1, bias=False), torch.nn.AvgPool2d(2), torch.nn.Flatten()]
        super().__init__(*layers, torch.nn.Linear(3 * 64, 3, bias=False))


def colours(num_classes):
    return Colours()
"""


def knowing(order: list[int]) -> dict[str, torch.Tensor]:
    """Weights of that network that know the three colours without training."""
    mean = torch.eye(3).repeat_interleave(64, 1)
    return {"0.weight": torch.eye(3)[..., None, None], "3.weight": mean[order]}


def test_another_order_of_classes_is_the_likely_cause(
    here: Here, error: Error, options: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    torch.save(knowing([2, 1, 0]), "reversed.pt")
    torch.save(knowing([0, 1, 2]), "right.pt")
    named = ["--teacher", "mine:colours", "--teacher-weights"]
    told = error(here("distill", *options, *named, "reversed.pt"), 2)
    assert "with classes in reverse order it is right on 100.0%" in told
    assert "its classes in the same order, or add --accept-weak-teacher" in told
    assert here("distill", *options, *named, "right.pt", "--teacher-tap", "1").code == 0


def test_two_sets_of_weights(here: Here, error: Error, options: list[Any], teacher_file: Path) -> None:
    from safetensors.torch import load_file

    good = load_file(teacher_file)
    poor = {name: torch.zeros_like(tensor) for name, tensor in good.items()}
    torch.save({"model": poor, "model_ema": good}, "two.pt")
    named = ["--teacher", "resnet8", "--teacher-weights", "two.pt"]
    result = here("distill", *options, *named)
    assert (
        "two.pt holds 2 sets of weights: 'model' is used; --weights-key model_ema selects another"
        in result.err
    )
    assert "is suspect" in error(result, 2)
    assert here("distill", *options, *named, "--weights-key", "model_ema").code == 0
    # The same file, other weights: not the same training.
    assert "made with other settings" in error(here("distill", *options, *named, "--accept-weak-teacher"), 2)
    assert "Add --teacher-weights" in error(here("distill", *options, "--weights-key", "a"), 2)


@pytest.fixture
def greys(tmp_path: Path) -> DataSet:
    """Three shades of grey, all above the mean of ImageNet."""
    for split, count in (("train", 24), ("val", 6)):
        for index, level in enumerate((153, 182, 211)):
            place = tmp_path / "greys" / split / f"class{index}"
            place.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (32, 32), (level + number % 3,) * 3).save(place / f"{number}.png")
    return open_data(DataSettings(str(tmp_path / "greys")))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is reported of how a file of weights is read."""
    found: list[str] = []
    monkeypatch.setattr("imf_deploy.teaching.reading.say", found.append)
    return found


def given(path: Path, name: str, **reading: Any) -> GivenTeacher:
    return GivenTeacher(teacher=name, teacher_weights=str(path), **reading)


@torch.no_grad()
def fit_head(network: torch.nn.Module, data: DataSet) -> None:
    """Let a fresh network's last layer tell how strong its features are, in equal steps."""
    images = data.preprocess.normalize(data.train.fetch(torch.arange(len(data.train))))
    features: list[torch.Tensor] = []
    hook = network.avgpool.register_forward_hook(lambda _module, _in, out: features.append(out.flatten(1)))
    network.eval()(images)
    hook.remove()
    step, index = torch.arange(3.0), data.train.labels[:, None].double()
    wanted = index * step - step**2 / 2
    with_bias = torch.cat([features[0], torch.ones(len(images), 1)], 1).double()
    solution = torch.linalg.lstsq(with_bias, wanted, driver="gelsd").solution.float()
    network.fc.weight.copy_(solution[:-1].T)
    network.fc.bias.copy_(solution[-1])


def test_weights_that_want_another_input(greys: DataSet, tmp_path: Path, said: list[str]) -> None:
    """torchvision's published GoogLeNet transforms its input; nothing in the state_dict says so."""
    turned = (("transform_input", True),)
    torch.manual_seed(0)
    path = tmp_path / "googlenet.pt"
    network = build_model(replace(ModelSpec.for_images("googlenet", 3, 32), settings=turned))
    fit_head(network, greys)
    torch.save(network.state_dict(), path)
    found = find_teacher(given(path, "googlenet"), greys, "cpu")
    assert found.spec.settings == turned
    assert found.accuracy == 1
    assert "`teacher_options` transform_input=true is chosen, because it gets 100.0% of" in said[0]
    assert ModelSpec.from_dict(json.loads(json.dumps(found.spec.to_dict()))) == found.spec
    as_it_is = given(
        path, "googlenet", teacher_options=(("transform_input", False),), teacher_stem_strides=(2, 1)
    )
    plain = find_teacher(as_it_is, greys, "cpu")
    assert plain.accuracy < 0.7
    assert plain.identity != found.identity


def test_weights_that_were_trained_with_the_strides_of_the_library(
    greys: DataSet, tmp_path: Path, said: list[str]
) -> None:
    """Below 64 pixels the strides here are others; no state_dict shows them either."""
    path = tmp_path / "resnet18.pt"
    torch.manual_seed(0)
    network = build_model(ModelSpec("resnet18", 3, 32))
    fit_head(network, greys)
    torch.save(network.state_dict(), path)
    found = find_teacher(given(path, "resnet18"), greys, "cpu")
    assert found.accuracy == 1
    usual = find_teacher(given(path, "resnet18", teacher_stem_strides=(2, 1)), greys, "cpu")
    assert usual.accuracy < 0.7
    assert found.spec.stem_strides == ()
    assert "`teacher_stem_strides` own is chosen, because it gets" in said[0]
    told = find_teacher(given(path, "resnet18", teacher_stem_strides="own"), greys, "cpu")
    assert (told.spec, told.identity) == (found.spec, found.identity)


def test_weights_that_want_their_input_as_it_is(greys: DataSet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "googlenet.pt"
    network = build_model(ModelSpec.for_images("googlenet", 3, 32))
    fit_head(network, greys)
    torch.save(network.state_dict(), path)
    found = find_teacher(given(path, "googlenet"), greys, "cpu")
    assert found.spec.settings == ()
    assert found.accuracy == 1


def test_a_teacher_without_parameters(greys: DataSet) -> None:
    spec = ModelSpec("mine:fixed", 3, 32)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    network.register_buffer("grey", torch.ones(1))
    accuracy = accuracy_of(network, greys.test, greys.preprocess, torch.device("cpu"))
    teacher = Teacher(network.eval(), spec, "0" * 64, accuracy, recorded=True)
    assert "The teacher mine:fixed is suspect" in check_teacher(teacher, greys, accept=True)


@pytest.mark.parametrize(
    ("teacher", "student", "weak"), [(0.9, 0.8, False), (0.9, 0.9, True), (0.8, 0.9, True)]
)
def test_no_better_is_weak(teacher: float, student: float, weak: bool) -> None:
    assert bool(weak_teacher(teacher, student)) == weak
