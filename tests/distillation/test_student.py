"""Weights that a student starts from: recorded, part of the recipe, and only a start."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import imf_deploy
from imf_deploy.data import DataSet
from imf_deploy.distillation.distill import distill, load_distilled
from imf_deploy.distillation.student import student_start
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.models import ModelSpec, build_model, read_weights, recipe_of, save_weights
from imf_deploy.settings import DistillSettings
from imf_deploy.stripping.stage import strip
from imf_deploy.teaching.teacher import Teacher

# The rate is too small to move the weights.
CONFIG = DistillSettings(student="resnet8", epochs=1, batch_size=8, lr=1e-9, refit=False, device="cpu")


def write_weights(path: Path, seed: int, classes: int = 3, name: str = "resnet8") -> Path:
    torch.manual_seed(seed)
    save_weights(path, build_model(ModelSpec(name, classes, 16)).state_dict())
    return path


@pytest.mark.parametrize("classes", [3, 5])
def test_the_student_starts_from_its_weights_and_the_branches_fresh(
    data: DataSet, teacher: Teacher, tmp_path: Path, classes: int
) -> None:
    path = write_weights(tmp_path / "w.safetensors", 7, classes)
    fresh = distill(data, teacher, CONFIG, tmp_path / "fresh.safetensors")
    made = distill(
        data, teacher, replace(CONFIG, student_weights=str(path)), tmp_path / "started.safetensors"
    )
    theirs, own, ours = read_weights(path), read_weights(fresh.path), read_weights(made.path)
    convolutions = [name for name in theirs if theirs[name].dim() == 4]
    assert convolutions
    for name in convolutions:
        assert torch.allclose(ours[f"student.{name}"], theirs[name], atol=1e-5)
        assert not torch.allclose(own[f"student.{name}"], theirs[name], atol=1e-2)
    assert own.keys() == ours.keys()
    for name in own:
        if name.startswith("imf.ifds") and own[name].dim() == 4:
            assert torch.allclose(ours[name], own[name], atol=1e-5)
    heads = [name for name in theirs if theirs[name].dim() == 2]
    whole = theirs[heads[0]] if classes == 3 else own[f"student.{heads[0]}"]
    assert torch.allclose(ours[f"student.{heads[0]}"], whole, atol=1e-5)

    record = made.starting_weights
    assert record is not None
    assert (record.source, record.classes, record.new_head) == (str(path), classes, classes != 3)
    assert fresh.starting_weights is None
    product = strip(load_distilled(made), ["plain"], tmp_path / "products")[0]
    assert product.starting_weights == record
    library = build_model(ModelSpec("resnet8", 3, 16))
    library.load_state_dict(read_weights(product.path), strict=True)


def test_the_recipe_holds_what_the_weights_are_not_where(
    data: DataSet, teacher: Teacher, tmp_path: Path
) -> None:
    first = write_weights(tmp_path / "a.safetensors", 7)
    output = tmp_path / "student.safetensors"
    config = replace(CONFIG, student_weights=str(first))
    made = distill(data, teacher, config, output)
    moved = first.rename(tmp_path / "moved.safetensors")
    again = distill(data, teacher, replace(CONFIG, student_weights=str(moved)), output)
    assert again.sha256 == made.sha256
    assert again.starting_weights == made.starting_weights
    write_weights(moved, 8)
    with pytest.raises(UsageError, match="already exists, made with other settings"):
        distill(data, teacher, replace(CONFIG, student_weights=str(moved)), output)
    with pytest.raises(UsageError, match="already exists, made with other settings"):
        distill(data, teacher, CONFIG, output)


def test_what_student_and_teacher_both_started_with_is_the_students_own(
    data: DataSet, teacher_file: Path, teacher: Teacher, tmp_path: Path
) -> None:
    config = replace(CONFIG, student_weights=str(teacher_file), lr=1e-30)
    made = load_distilled(distill(data, teacher, config, tmp_path / "student.safetensors"))
    name = next(n for n, t in teacher.module.state_dict().items() if t.dim() == 4)
    assert torch.equal(made.graph.student.state_dict()[name], teacher.module.state_dict()[name])
    assert strip(made, ["plain"], tmp_path / "products")[0].strip is not None


def test_weights_that_do_not_fit_are_refused_before_the_training(
    data: DataSet, teacher: Teacher, tmp_path: Path
) -> None:
    path = write_weights(tmp_path / "w.safetensors", 0, name="resnet14")
    state = read_weights(write_weights(tmp_path / "nan.safetensors", 0))
    next(tensor for tensor in state.values() if tensor.dim() == 4)[:] = float("nan")
    save_weights(tmp_path / "nan.safetensors", state)
    for file, message in ((path, "does not belong to resnet8"), (tmp_path / "nan.safetensors", "not finite")):
        with pytest.raises(ImfDeployError, match=message):
            distill(data, teacher, replace(CONFIG, student_weights=str(file)), tmp_path / "s.safetensors")
        assert not list(tmp_path.glob("s.*"))


def test_changed_strides_are_reported(data: DataSet, tmp_path: Path) -> None:
    path = write_weights(tmp_path / "w.safetensors", 0, name="mobilenetv2x0.5")
    config = replace(CONFIG, student="mobilenetv2x0.5", student_weights=str(path))
    start = student_start(config, data)
    assert start is not None
    assert start.notes[-1].startswith("For images of 16 pixels the student has the strides 2,1")
    own = student_start(replace(config, stem_strides=()), data)
    assert own is not None
    assert [note.split(" state ")[0] for note in own.notes] == [f"{path} does not"]


def test_in_python_a_named_student_starts_from_weights(
    data: DataSet, teacher: Teacher, tmp_path: Path
) -> None:
    path = write_weights(tmp_path / "w.safetensors", 7, 5)
    config = replace(CONFIG, student_weights=str(path))
    made = imf_deploy.distill("resnet8", teacher.module, data, settings=config)
    name = next(n for n, t in read_weights(path).items() if t.dim() == 4)
    assert torch.allclose(made.graph.student.state_dict()[name], read_weights(path)[name], atol=1e-5)
    assert made.artifact.starting_weights is not None
    with pytest.raises(UsageError, match="the student is a module"):
        imf_deploy.distill(made.graph.student, teacher.module, data, settings=config)


FACTORY = """
import torch
from torch import nn

def build(num_classes):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, 2, 1),
                            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, num_classes))
    return network

def loaded(num_classes):
    network = build(num_classes)
    network[0].load_state_dict(torch.load("conv.pt"))
    return network

def seeded(num_classes):
    with torch.random.fork_rng():
        torch.manual_seed(int(open("seed.txt").read()))
        return build(num_classes)

def wider(num_classes):
    network = build(num_classes)
    network.register_buffer("scale", torch.full((1,), float(open("seed.txt").read())), persistent=False)
    return network
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "students_here.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("students_here", None)


def recipe(name: str) -> Any:
    return recipe_of(ModelSpec(f"students_here:{name}", 3, 16))


@pytest.mark.parametrize("name", ["loaded", "seeded", "wider"])
def test_weights_that_a_function_returns_are_part_of_the_recipe(here: Path, name: str) -> None:
    def write(value: int) -> None:
        torch.manual_seed(value)
        torch.save(torch.nn.Conv2d(3, 4, 3).state_dict(), here / "conv.pt")
        (here / "seed.txt").write_text(str(value))

    write(1)
    torch.manual_seed(5)
    first = recipe(name)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert recipe(name) == first
    write(2)
    assert recipe(name) != first
    assert recipe("build") == recipe("build")


def test_changed_weights_of_a_function_are_not_reused(data: DataSet, teacher: Teacher, here: Path) -> None:
    config = replace(CONFIG, student="students_here:loaded")
    for value in (1, 2):
        torch.manual_seed(value)
        torch.save(torch.nn.Conv2d(3, 4, 3).state_dict(), here / "conv.pt")
        if value == 1:
            made = distill(data, teacher, config, here / "student.safetensors")
            assert distill(data, teacher, config, here / "student.safetensors").sha256 == made.sha256
    with pytest.raises(UsageError, match="already exists, made with other settings"):
        distill(data, teacher, config, here / "student.safetensors")
