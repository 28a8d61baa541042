"""Random crops: torchvision's own choice, the same in every process, and exact to the pixel."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2.functional import resized_crop

from imf_deploy.data import Augment, DataSet, encoded, open_data, train_batches
from imf_deploy.data.crops import RandomCrop, random_crops
from imf_deploy.data.dataset import EncodedImages, Split
from imf_deploy.settings import DataSettings, TrainingSettings
from imf_deploy.settings.training import AugmentName

MakeImages = Callable[..., Path]


def test_a_crop_follows_from_its_seed_alone_and_disturbs_nothing() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = RandomCrop(7)(100, 200)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(6)
    assert RandomCrop(7)(100, 200) == first
    torch.manual_seed(7)
    whole = torch.empty(3, 100, 200)
    assert RandomResizedCrop.get_params(whole, [0.08, 1.0], [3 / 4, 4 / 3]) == first


def test_crops_differ_between_pictures_and_epochs_and_lie_inside() -> None:
    boxes = [crop(30, 40) for key in (0, 1) for crop in random_crops(list(range(50)), key)]
    assert len(set(boxes)) > 80
    for top, left, height, width in boxes:
        assert top >= 0
        assert left >= 0
        assert height > 0
        assert width > 0
        assert top + height <= 30
        assert left + width <= 40
        assert height * width >= 0.05 * 30 * 40


def positions_of(batches: list[torch.Tensor], data: DataSet) -> list[int]:
    whole = data.train.fetch(torch.arange(len(data.train)))
    return [next(i for i, w in enumerate(whole) if torch.equal(w, image)) for image in torch.cat(batches)]


def batches(data: DataSet, augment: Augment, epoch: int = 0) -> list[torch.Tensor]:
    plain = replace(data.preprocess, mean=(0.0,) * 3, std=(1 / 255,) * 3)  # bytes come out as they are
    found = train_batches(data.train, plain, 4, augment, seed=3, epoch=epoch)
    return [images.round().to(torch.uint8).contiguous() for images, _ in found]


@pytest.fixture
def photos(tmp_path: Path, make_images: MakeImages) -> Path:
    return make_images(tmp_path / "photos", {"train": 6, "val": 2}, classes=2, size=40)


def test_the_part_is_taken_of_the_whole_photo(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", 100)
    data = open_data(DataSettings(str(photos), image_size=16, val_fraction=0.0))
    source = data.train.source
    assert isinstance(source, EncodedImages)
    order = positions_of(batches(data, Augment(0, False)), data)
    cropped = torch.cat(batches(data, Augment(0, False, crop=True)))
    for position, image in zip(order, cropped, strict=True):
        top, left, height, width = random_crops([position], 3 * 1_000_003)[0](40, 40)
        with Image.open(source.pictures.name(position)) as photo:
            part = photo.resize((16, 16), Image.Resampling.BILINEAR, (left, top, left + width, top + height))
        assert np.array_equal(np.asarray(part).transpose(2, 0, 1), image.numpy())


def test_in_memory_the_part_is_taken_of_the_prepared_picture(photos: Path) -> None:
    data = open_data(DataSettings(str(photos), image_size=16, val_fraction=0.0))
    whole = data.train.fetch(torch.arange(len(data.train)))
    order = positions_of(batches(data, Augment(0, False)), data)
    cropped = torch.cat(batches(data, Augment(0, False, crop=True)))
    for position, image in zip(order, cropped, strict=True):
        box = random_crops([position], 3 * 1_000_003)[0](16, 16)
        assert torch.equal(resized_crop(whole[position], *box, [16, 16]), image)


def test_workers_change_nothing_and_epochs_do(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", 100)
    data = open_data(DataSettings(str(photos), image_size=16, val_fraction=0.0))
    source = data.train.source
    assert isinstance(source, EncodedImages)

    def run(workers: int, epoch: int) -> torch.Tensor:
        other = EncodedImages(source.pictures, source.labels, source.preprocess, workers)
        part = replace(data, train=Split(other, data.train.positions))
        return torch.cat(batches(part, Augment(0, True, crop=True), epoch))

    assert torch.equal(run(0, 1), run(2, 1))
    assert not torch.equal(run(0, 1), run(0, 2))


def test_names() -> None:
    def of(augment: AugmentName, **settings: Any) -> Augment:
        return Augment.of(TrainingSettings(augment=augment, **settings), 28)

    assert of("shift-flip") == Augment(2, True)
    assert of("shift-flip", flip=False, shift=4) == Augment(4, False)
    assert of("crop-flip") == Augment(0, True, crop=True)
    assert of("none") == Augment(0, False)
    assert Augment.of(TrainingSettings(), (28, 84)) == Augment((2, 6), True)
    assert Augment.of(TrainingSettings(shift=3), (1, 28, 84)) == Augment(3, True)


def test_parts_have_the_proportions_of_the_input() -> None:
    boxes = [crop(600, 600) for crop in random_crops(list(range(200)), 0, aspect=2.0)]
    ratios = [width / height for _, _, height, width in boxes]
    assert 1.45 < min(ratios) < 1.7
    assert 2.3 < max(ratios) < 2.75


def test_a_wide_input_sees_wide_parts(photos: Path) -> None:
    data = open_data(DataSettings(str(photos), image_size=(8, 16), val_fraction=0.0))
    whole = data.train.fetch(torch.arange(len(data.train)))
    order = positions_of(batches(data, Augment(0, False)), data)
    cropped = torch.cat(batches(data, Augment(0, False, crop=True)))
    for position, image in zip(order, cropped, strict=True):
        box = random_crops([position], 3 * 1_000_003, 2.0)[0](8, 16)
        assert torch.equal(resized_crop(whole[position], *box, [8, 16]), image)
