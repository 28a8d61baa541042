"""Teachers with published weights of the same classes, and of others."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch

from imf_deploy.data import DataSet, open_data
from imf_deploy.distillation.distill import distill
from imf_deploy.distillation.student import student_data
from imf_deploy.models import ModelSpec, build_model, save_weights
from imf_deploy.settings import DataSettings, DistillSettings, GivenTeacher
from imf_deploy.teaching.fine_tuning import OtherClassesError
from imf_deploy.teaching.teacher import find_teacher

GIVEN = GivenTeacher(teacher="timm:resnet10t", teacher_weights="hf-hub:someone/colours")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hugging Face's cache with a ``resnet10t`` of three classes, made for 48 pixels."""
    folder = tmp_path_factory.mktemp("hub")
    place = folder / "models--someone--colours"
    snapshot = place / "snapshots" / ("1" * 40)
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs/main").write_text("1" * 40)
    own = {"mean": [0.5] * 3, "std": [0.25] * 3, "input_size": [3, 48, 48], "crop_pct": 1.0}
    about = {"license": "mit", "num_classes": 3, "classifier": "fc", "first_conv": "conv1.0"}
    config = {"architecture": "resnet10t", "num_classes": 3, "pretrained_cfg": own | about}
    (snapshot / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    save_weights(snapshot / "model.safetensors", build_model(ModelSpec("timm:resnet10t", 3, 48)).state_dict())
    return folder


@pytest.fixture(autouse=True)
def offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))


def test_it_sees_images_as_it_was_trained_on_them(data: DataSet, tmp_path: Path) -> None:
    teacher = find_teacher(GIVEN, data, "cpu")
    assert teacher.spec.image_size == 48
    assert teacher.spec.stem_strides == ()
    assert teacher.origin is not None
    assert (teacher.origin.source, teacher.origin.license) == (GIVEN.teacher_weights, "mit")
    config = DistillSettings(student="resnet8", epochs=1, batch_size=16, device="cpu")
    made = distill(data, teacher, config, tmp_path / "student.safetensors")
    assert made.teacher_weights == teacher.origin
    assert made.parent == teacher.origin.sha256
    assert made.teacher["image_size"] == 48


def test_a_fresh_student_sees_what_it_sees(image_folder: Path) -> None:
    config = student_data(DataSettings(str(image_folder)), DistillSettings(), GIVEN)
    prepared = open_data(config).preprocess
    assert (prepared.size, prepared.mean, prepared.std) == (16, (0.5,) * 3, (0.25,) * 3)
    assert student_data(DataSettings(), DistillSettings(), GivenTeacher()) == DataSettings()


def test_of_other_classes_it_has_to_be_fine_tuned(data: DataSet) -> None:
    labels = (*data.preprocess.labels, "another")
    other: Any = replace(data, preprocess=replace(data.preprocess, labels=labels))
    with pytest.raises(OtherClassesError) as caught:
        find_teacher(GIVEN, other, "cpu")
    assert "was trained for 3 classes" in caught.value.what
    assert "--teacher-weights hf-hub:someone/colours" in caught.value.hint
