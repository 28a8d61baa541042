"""``imf_deploy.distill`` on objects and on names."""

import copy
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from one_stage import OneStage
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import imf_deploy
from imf_deploy.artifact import load_artifact
from imf_deploy.data import DataSet
from imf_deploy.distillation.distill import distill, load_distilled
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.models import ModelSpec, build_model
from imf_deploy.settings import DistillSettings
from imf_deploy.settings.starts import STUDENT
from imf_deploy.teaching.teacher import Teacher

Batches = list[tuple[Tensor, Tensor]]


def settings(**changes: Any) -> DistillSettings:
    return DistillSettings(**{"epochs": 1, "lr": 0.02, "device": "cpu", "batch_size": 8} | changes)


def test_modules_and_batches(
    student: nn.Module, big: nn.Module, loader: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = copy.deepcopy(student.state_dict())
    distilled = imf_deploy.distill(student, big, loader, loader, settings(epochs=3))
    history = distilled.artifact.history
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert history[-1]["validation_accuracy"] > 0.8
    assert {each.head for each in distilled.artifact.refitted} >= {"plain", "imf@1"}
    assert not torch.equal(student.head.weight.cpu(), before["head.weight"])  # type: ignore[union-attr, operator]
    plain, small = imf_deploy.strip(distilled, ["plain", "imf@1"])
    images = loader[0][0]
    with torch.no_grad():
        torch.testing.assert_close(plain.module(images), student.eval()(images))
        assert small.module(images).shape == (8, 3)
    fp32 = imf_deploy.export_onnx(small, tmp_path / "small.onnx")
    assert imf_deploy.verify(fp32, small, loader).verify.status == "pass"
    assert {path.name for path in tmp_path.iterdir()} == {"small.onnx", "small.onnx.json"}


def test_a_student_without_an_imf_k(
    big: nn.Module, loader: Batches, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "imf_deploy"):
        distilled = imf_deploy.distill(OneStage(), big, loader, loader, settings())
    assert "OneStage has no imf@1: its last blocks leave no room for IFDs" in caplog.text
    assert [each.head for each in distilled.artifact.refitted] == ["plain"]
    (plain,) = imf_deploy.strip(distilled)
    assert (plain.name, plain.artifact.strip.passed) == ("plain", True)
    with pytest.raises(UsageError, match="This student has: plain"):
        imf_deploy.strip(distilled, ["imf@1"])


def test_names_give_what_the_command_gives(
    image_folder: Path, data: DataSet, teacher: Teacher, teacher_file: Path, tmp_path: Path
) -> None:
    config = settings()
    named = imf_deploy.distill("resnet8", teacher_file, image_folder, settings=config)
    path = tmp_path / "distilled.safetensors"
    distill(data, teacher, replace(config, student="resnet8"), path)
    expected = load_distilled(load_artifact(path)).graph.state_dict()
    found = named.graph.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert named.artifact.preprocess == data.preprocess


def test_a_checkpoint_resumes_with_the_same_weights(
    student: nn.Module, big: nn.Module, loader: Batches, tmp_path: Path
) -> None:
    class Cut(list[tuple[Tensor, Tensor]]):
        """Batches that break off in the second epoch."""

        rounds = 0

        def __iter__(self) -> Any:
            self.rounds += 1
            if self.rounds > 2:  # the first look, and the first epoch
                raise KeyboardInterrupt
            return super().__iter__()

    whole = imf_deploy.distill(copy.deepcopy(student), big, loader, settings=settings(epochs=2))
    with pytest.raises(KeyboardInterrupt):
        imf_deploy.distill(
            copy.deepcopy(student), big, Cut(loader), settings=settings(epochs=2), folder=tmp_path
        )
    resumed = imf_deploy.distill(
        copy.deepcopy(student), big, loader, settings=settings(epochs=2), folder=tmp_path
    )
    expected = whole.graph.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.graph.state_dict().items())
    with pytest.raises(UsageError, match="other settings"):
        imf_deploy.distill(copy.deepcopy(student), big, loader, settings=settings(epochs=3), folder=tmp_path)


def test_a_loader_s_own_batches_are_trained_on(student: nn.Module, big: nn.Module, loader: Batches) -> None:
    seen: list[int] = []

    def note(module: nn.Module, inputs: Any, _output: Any) -> None:
        if module.training:
            seen.append(len(inputs[0]))

    hook = student.register_forward_hook(note)
    images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    uneven = DataLoader(TensorDataset(images[:40], labels[:40]), 12, shuffle=True)
    imf_deploy.distill(student, big, uneven, settings=settings(epochs=2, mixup=0.2))
    hook.remove()
    assert seen == [12, 12, 12, 4] * 2


def test_a_data_set_is_shuffled_into_batches(student: nn.Module, big: nn.Module, loader: Batches) -> None:
    pairs = TensorDataset(*(torch.cat(parts) for parts in zip(*loader, strict=True)))
    distilled = imf_deploy.distill(student, big, pairs, pairs, settings(epochs=2))
    assert len(distilled.artifact.history) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": iter([])}, "has no length"),
        ({"train": []}, "yields no batch|preprocess is not given"),
        ({"teacher": "resnet8"}, "no teacher is given"),
        ({"student": "no-such-network"}, "no-such-network"),
        ({"settings": settings(keep="best")}, "keep"),
    ],
)
def test_what_does_not_fit_is_refused(
    student: nn.Module, big: nn.Module, loader: Batches, change: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"student": student, "teacher": big, "train": loader, "settings": settings()}
    with pytest.raises(ImfDeployError, match=message):
        imf_deploy.distill(**(arguments | change))


def test_a_named_student_on_given_batches(big: nn.Module, loader: Batches) -> None:
    distilled = imf_deploy.distill("resnet8", big, loader, settings=settings())
    assert distilled.spec.name == "resnet8"
    state = imf_deploy.strip(distilled, ["plain"])[0].module.state_dict()
    assert state.keys() == build_model(distilled.spec).state_dict().keys()


def test_defaults_follow_the_weights_that_the_student_starts_from(
    big: nn.Module, loader: Batches, tmp_path: Path
) -> None:
    torch.save(build_model(ModelSpec("resnet8", 3, 16)).state_dict(), tmp_path / "start.pt")
    given = imf_deploy.distill("resnet8", big, loader, student_weights=tmp_path / "start.pt").artifact.config
    assert given["lr"] == STUDENT.defaults["lr"]
    own = settings(lr=0.03, student_weights=str(tmp_path / "start.pt"))
    distilled = imf_deploy.distill("resnet8", big, loader, settings=own)
    assert distilled.artifact.config["lr"] == 0.03
    assert distilled.artifact.config["body_lr_factor"] == 1
    with pytest.raises(UsageError, match="settings and student_weights are both given"):
        imf_deploy.distill("resnet8", big, loader, settings=settings(), student_weights=tmp_path / "start.pt")
