"""A teacher sees images as it was trained on them, whatever the student's preparation is."""

import copy
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from imf_deploy.artifact import load_artifact
from imf_deploy.data import DataSet, open_data
from imf_deploy.data.dataset import Split
from imf_deploy.distillation.distill import distill
from imf_deploy.errors import ImfDeployError
from imf_deploy.method.branches import Taps
from imf_deploy.models import ModelSpec, build_model, find_blocks, save_weights
from imf_deploy.preparation import Preparation
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import TeacherFile
from imf_deploy.settings import DataSettings, DistillSettings, GivenTeacher
from imf_deploy.teaching.adapter import InputAdapter
from imf_deploy.teaching.teacher import Teacher, find_teacher, load_teacher
from imf_deploy.training.device import choose_device

LABELS = ("a", "b", "c")
STUDENT = Preprocess(32, "crop", 32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), LABELS)
OTHERS = [
    Preprocess(32, "crop", 32, (0.5,) * 3, (0.5,) * 3, LABELS),
    Preprocess(32, "crop", 32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), LABELS, interpolation="bicubic"),
    Preprocess(32, "crop", 32, (0.4,), (0.3,), LABELS, "L"),
    Preprocess(32, "crop", 32, (0.4,) * 3, (0.3,) * 3, LABELS, "L"),
]


def picture(side: int = 32) -> Image.Image:
    """Return a smooth picture, which is the same at all sizes."""
    across = torch.linspace(0, 6, side)
    waves = [torch.sin(across * k)[:, None] * torch.cos(across * (3 - k))[None] for k in (1, 2, 3)]
    pixels = (torch.stack(waves, -1) + 1) * 127
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def given(preprocess: Preprocess, side: int = 32) -> Tensor:
    return preprocess.normalize(torch.from_numpy(np.array(preprocess.load(picture(side))))[None])


def network(channels: int, size: int) -> nn.Module:
    torch.manual_seed(0)
    return build_model(ModelSpec("resnet8", 3, (channels, size, size))).eval()


@pytest.mark.parametrize("own", OTHERS)
def test_of_the_same_size_the_teacher_answers_as_on_its_own_input(own: Preprocess) -> None:
    teacher = network(own.channels, 32)
    with torch.no_grad():
        expected = teacher(given(own))
        adapter = InputAdapter.between(STUDENT, own)
        assert adapter is not None
        adapter.attach(teacher)
        seen = teacher(given(STUDENT))
    # Pillow rounds grey pixels to whole numbers.
    assert torch.allclose(seen, expected, atol=1e-5 if own.color == "RGB" else 0.05)


@pytest.mark.parametrize("color", ["RGB", "L"])
def test_grey_images_in_one_and_in_three_channels(color: Any) -> None:
    one = Preprocess(32, "crop", 32, (0.4,), (0.3,), LABELS, "L")
    three = Preprocess(32, "crop", 32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), LABELS, color)
    for student, own in ((one, three), (replace(three, color="L"), one)):
        grey = replace(own, color="L")
        teacher = network(own.channels, 32)
        with torch.no_grad():
            expected = teacher(given(grey))
            adapter = InputAdapter.between(student, own)
            assert adapter is not None
            adapter.attach(teacher)
            assert torch.allclose(teacher(given(student)), expected, atol=1e-5)


@pytest.mark.parametrize(("side", "interpolation"), [(48, "bilinear"), (24, "bilinear"), (48, "bicubic")])
def test_of_another_size_the_input_is_close(side: int, interpolation: Any) -> None:
    own = Preprocess(side, "crop", side, (0.5,) * 3, (0.5,) * 3, LABELS, interpolation=interpolation)
    adapter = InputAdapter.between(STUDENT, own)
    assert adapter is not None
    seen, expected = adapter(given(STUDENT, 96)), given(own, 96)
    assert seen.shape == expected.shape
    assert float((seen - expected).abs().mean()) < 0.02  # of a range of 2
    with torch.no_grad():
        teacher = network(3, side)
        answers = teacher(expected)
        adapter.attach(teacher)
        assert torch.allclose(teacher(given(STUDENT, 96)), answers, atol=0.1)


def test_sides_that_differ() -> None:
    own = Preprocess((24, 40), "crop", 24, (0.5,) * 3, (0.5,) * 3, LABELS)
    adapter = InputAdapter.between(STUDENT, own)
    assert adapter is not None
    assert adapter(given(STUDENT)).shape == (1, 3, 24, 40)


def test_without_a_difference_there_is_none() -> None:
    assert InputAdapter.between(STUDENT, replace(STUDENT, resize_to=40, interpolation="bicubic")) is None
    assert InputAdapter.between(STUDENT, replace(STUDENT, color="L")) is not None
    assert InputAdapter.between(replace(STUDENT, color="L"), STUDENT) is None


def test_the_teachers_tensors_keep_their_names_and_it_can_be_copied() -> None:
    teacher = network(3, 32)
    names = list(teacher.state_dict())
    adapter = InputAdapter.between(STUDENT, OTHERS[0])
    assert adapter is not None
    adapter.attach(teacher)
    assert list(teacher.state_dict()) == names
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(teacher)(given(STUDENT)), teacher(given(STUDENT)))


def other(data: DataSet, **changes: Any) -> DataSet:
    """Return the data prepared differently."""
    return replace(data, preprocess=replace(data.preprocess, **changes))


def logits(teacher: Teacher, data: DataSet, split: Split) -> Tensor:
    with torch.no_grad():
        return teacher.logits(data.preprocess.normalize(split.fetch(torch.arange(len(split)))))


def test_a_recorded_teacher_teaches_on_other_preprocessing(
    data: DataSet, teacher_file: Path, teacher: Teacher
) -> None:
    changed = other(data, mean=(0.5,) * 3, std=(0.5,) * 3)
    found = load_teacher(teacher_file, "", changed, choose_device("cpu"))
    assert found.recorded
    assert found.accuracy == teacher.accuracy
    assert torch.allclose(logits(found, changed, data.test), logits(teacher, data, data.test), atol=1e-4)
    again = load_teacher(teacher_file, "", changed, choose_device("cpu"))
    third = load_teacher(teacher_file, "", other(data, mean=(0.4,) * 3), choose_device("cpu"))
    assert found.identity == again.identity
    assert len({teacher.identity, found.identity, third.identity}) == 3
    assert teacher.identity == teacher.sha256


def test_classes_must_be_the_same_in_the_same_order(data: DataSet, teacher_file: Path) -> None:
    for labels in (data.preprocess.labels[::-1], ("x", *data.preprocess.labels[1:])):
        with pytest.raises(ImfDeployError, match=r"other classes than .* \(other names or order\)"):
            load_teacher(teacher_file, "", other(data, labels=labels), choose_device("cpu"))


def test_a_record_of_unknown_preprocessing_is_refused(
    data: DataSet, teacher_file: Path, tmp_path: Path
) -> None:
    record = load_artifact(teacher_file, TeacherFile)
    path = tmp_path / "t.safetensors"
    path.write_bytes(teacher_file.read_bytes())
    unknown = Preprocess.of_tensors((3, 16, 16), data.preprocess.labels)
    record.revised(path=path, preprocess=unknown).save()
    with pytest.raises(ImfDeployError, match="does not state how images become its input"):
        load_teacher(path, "", data, choose_device("cpu"))


def test_a_student_of_another_size_and_preparation_learns_from_it(
    image_folder: Path, teacher_file: Path, tmp_path: Path
) -> None:
    weights = Preparation(16, 1.0, (0.5,) * 3, (0.5,) * 3, "bicubic")
    data = open_data(DataSettings(str(image_folder), image_size=24, starting=weights))
    teacher = load_teacher(teacher_file, "", data, choose_device("cpu"))
    assert teacher.spec.image_size == 16
    config = DistillSettings(student="resnet8", epochs=1, batch_size=16, device="cpu", teacher_tap="layer2")
    made = distill(data, teacher, config, tmp_path / "student.safetensors")
    assert made.preprocess.size == 24
    assert [block.name for block in made.teacher_features] == ["layer2"] * len(made.teacher_features)
    # Its map is that of its own input of 16 pixels.
    assert made.teacher_features[0].size == 8


def test_a_student_for_wide_images_learns_from_a_teacher_of_square_ones(
    image_folder: Path, teacher_file: Path, tmp_path: Path
) -> None:
    wide = open_data(DataSettings(str(image_folder), image_size=(24, 48)))
    teacher = load_teacher(teacher_file, "", wide, choose_device("cpu"))
    assert teacher.spec.shape == (3, 16, 32)  # the images are not distorted
    assert teacher.adapter
    assert teacher.adapter.size == (16, 32)
    config = DistillSettings(student="resnet8", epochs=1, batch_size=16, device="cpu", lr=0.01)
    made = distill(wide, teacher, config, tmp_path / "student.safetensors")
    assert {block.size for block in made.teacher_features} == {(4, 8)}


def test_a_teacher_that_is_built_for_one_size_sees_the_whole_image(
    image_folder: Path, teacher_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "t.safetensors"
    spec = ModelSpec.for_images("timm:deit_tiny_patch16_224", 3, 32)
    save_weights(path, build_model(spec).state_dict())
    known = load_artifact(teacher_file, TeacherFile)
    own = replace(known.preprocess, size=32)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    known.revised(path=path, model=spec.to_dict(), preprocess=own, sha256=sha256).save()
    wide = open_data(DataSettings(str(image_folder), image_size=(24, 48)))
    teacher = load_teacher(path, "", wide, choose_device("cpu"))
    assert teacher.spec.shape == (3, 32, 32)
    blocks = find_blocks(teacher.module, (24, 48))
    assert [(block.name, block.size, block.layout) for block in blocks] == [("norm", 2, "tokens")]
    _, (features,) = Taps(teacher.module, blocks).run(torch.zeros(2, 3, 24, 48))
    assert features.shape == (2, 192, 2, 2)


def test_the_packaged_teacher_fits_the_embedded_data_however_it_is_normalised() -> None:
    plain = open_data(DataSettings())
    few = torch.arange(64)
    usual, own = (
        replace(data, test=data.test.subset(few))
        for data in (plain, open_data(DataSettings(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))))
    )
    first, second = (find_teacher(GivenTeacher(), data, "cpu") for data in (usual, own))
    assert first.adapter is None
    assert second.adapter is not None
    assert torch.allclose(logits(second, own, own.test), logits(first, usual, usual.test), atol=1e-3)
