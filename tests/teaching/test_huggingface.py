"""A network of transformers teaches on a folder of images, by the command line."""

from pathlib import Path
from typing import Any

import pytest
import torch

from imf_deploy.artifact import load_artifact
from imf_deploy.data import open_data
from imf_deploy.errors import UsageError
from imf_deploy.models.pretrained import prepared_for
from imf_deploy.records.files import DistilledFile
from imf_deploy.settings import DataSettings, GivenTeacher, TeacherSettings
from imf_deploy.teaching.teacher import find_teacher

transformers = pytest.importorskip("transformers")


def save_vit(folder: Path, labels: list[str]) -> Any:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=16, patch_size=4, hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)},
    )  # fmt: skip
    network = transformers.ViTForImageClassification(config).eval()
    network.save_pretrained(folder)
    size = {"height": 16, "width": 16}
    transformers.ViTImageProcessor(size=size, image_mean=[0.4] * 3, image_std=[0.3] * 3).save_pretrained(
        folder
    )
    return network


def test_its_logits_are_those_of_transformers(image_folder: Path, tmp_path: Path) -> None:
    data = open_data(DataSettings(str(image_folder)))
    network = save_vit(tmp_path, list(data.preprocess.labels))
    teacher = find_teacher(GivenTeacher(teacher=f"hf:{tmp_path}", teacher_weights="pretrained"), data, "cpu")
    images = data.train.fetch(torch.arange(4))
    # The student's mean and deviation are others, and the teacher still sees its own.
    assert data.preprocess.mean != (0.4, 0.4, 0.4)
    with torch.no_grad():
        expected = network(pixel_values=(images.float() / 255 - 0.4) / 0.3).logits
        torch.testing.assert_close(
            teacher.logits(data.preprocess.normalize(images)), expected, rtol=1e-3, atol=1e-4
        )


def test_another_configuration_makes_another_teacher(image_folder: Path, tmp_path: Path) -> None:
    data = open_data(DataSettings(str(image_folder)))
    save_vit(tmp_path, list(data.preprocess.labels))
    given = GivenTeacher(teacher=f"hf:{tmp_path}", teacher_weights="pretrained")
    before = find_teacher(given, data, "cpu")
    known = before.identity
    assert find_teacher(given, data, "cpu").identity == known
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"gelu"', '"relu"'))
    after = find_teacher(given, data, "cpu")
    assert after.sha256 == before.sha256  # the weights are the same
    images = data.preprocess.normalize(data.train.fetch(torch.arange(4)))
    assert not torch.equal(after.logits(images), before.logits(images))
    assert after.identity != known


def test_distilled_on_the_command_line(image_folder: Path, tmp_path: Path, cli: Any) -> None:
    save_vit(tmp_path / "vit", list(open_data(DataSettings(str(image_folder))).preprocess.labels))
    result = cli(
        "distill", "--data", image_folder, "--teacher", f"hf:{tmp_path / 'vit'}", "--teacher-weights",
        "pretrained", "--student", "resnet8", "--epochs", 1, "--accept-weak-teacher", "--output",
        tmp_path,
    )  # fmt: skip
    assert result.code == 0, result.err
    record = load_artifact(tmp_path / "distilled.safetensors", DistilledFile)
    assert record.teacher["name"] == f"hf:{tmp_path / 'vit'}"
    assert record.teacher_features[-1].layout == "tokens"


def test_fine_tuned_for_other_classes(image_folder: Path, tmp_path: Path, cli: Any) -> None:
    network = save_vit(tmp_path / "vit", ["one", "two", "three", "four", "five"])
    result = cli(
        "train-teacher", "--data", image_folder, "--teacher", f"hf:{tmp_path / 'vit'}", "--teacher-weights",
        "pretrained", "--epochs", 1, "--freeze", "body", "--ema", 0, "--output", tmp_path / "t.safetensors",
    )  # fmt: skip
    assert result.code == 0, result.err
    # The file teaches with the same name.
    data = open_data(
        prepared_for(
            DataSettings(str(image_folder)), str(tmp_path / "t.safetensors"), f"hf:{tmp_path / 'vit'}"
        )
    )
    given = GivenTeacher(teacher_weights=str(tmp_path / "t.safetensors"))
    state = find_teacher(given, data, "cpu").module.state_dict()
    own = network.state_dict()
    assert state["classifier.weight"].shape == (data.preprocess.num_classes, 24)
    assert all(torch.equal(t, own[n]) for n, t in state.items() if not n.startswith("classifier."))


@pytest.mark.parametrize("kind", [GivenTeacher, TeacherSettings])
def test_fresh_weights_are_not_meant(kind: Any) -> None:
    with pytest.raises(UsageError, match=r"given without its weights\. Add `teacher_weights` pretrained"):
        kind(teacher="hf:somewhere")


def test_without_weights_on_the_command_line(image_folder: Path, tmp_path: Path, cli: Any) -> None:
    save_vit(tmp_path / "vit", ["a", "b", "c"])
    result = cli("train-teacher", "--data", image_folder, "--teacher", f"hf:{tmp_path / 'vit'}")
    assert result.code == 2
    assert "Add --teacher-weights pretrained" in result.err
