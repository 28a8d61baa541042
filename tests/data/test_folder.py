"""Folders of pictures: their splits, their size, their preprocessing."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from imf_deploy.data import DataSet, encoded, eval_batches, open_data, reopen_data
from imf_deploy.data.dataset import EncodedImages
from imf_deploy.settings import DataSettings

MakeImages = Callable[..., Path]


def sizes(data: DataSet) -> tuple[int, int, int]:
    return len(data.train), len(data.validation), len(data.test)


def test_train_and_val(data: DataSet) -> None:
    assert data.name == "colours"
    assert data.preprocess.labels == ("class0", "class1", "class2")
    # val reports; a tenth of each class's 16 training pictures chooses.
    assert sizes(data) == (42, 6, 18)
    assert data.validation.labels.bincount().tolist() == [2, 2, 2]
    assert any("val is used only to report" in note for note in data.notes)


def test_train_val_and_test(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"train": 5, "val": 3, "test": 4}, classes=2)
    data = open_data(DataSettings(str(folder)))
    assert sizes(data) == (10, 6, 8)
    assert data.notes == ()


@pytest.mark.parametrize("split", ["", "train"])
def test_one_split_gets_a_hold_out_that_is_said(tmp_path: Path, make_images: MakeImages, split: str) -> None:
    folder = make_images(tmp_path / "d", {split: 10}, classes=2)
    data = open_data(DataSettings(str(folder), split_seed=3))
    assert sizes(data) == (14, 2, 4)
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert "4 of 20 images were held out" in data.notes[0]
    assert "seed 3" in data.notes[0]
    parts = [set(part.positions.tolist()) for part in (data.train, data.validation, data.test)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 20


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_other_names_of_val(tmp_path: Path, make_images: MakeImages, name: str) -> None:
    folder = make_images(tmp_path / "d", {"train": 4, name: 2}, classes=2)
    assert sizes(open_data(DataSettings(str(folder), val_fraction=0.0))) == (8, 0, 4)


def test_the_split_is_seeded(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"": 12}, classes=2)
    opened = [open_data(DataSettings(str(folder), split_seed=seed)) for seed in (0, 0, 1)]
    assert torch.equal(opened[0].test.positions, opened[1].test.positions)
    assert not torch.equal(opened[0].test.positions, opened[2].test.positions)
    assert opened[0].fingerprint == opened[1].fingerprint != opened[2].fingerprint


@pytest.mark.parametrize(
    ("pixels", "asked", "size", "resize_to"),
    [(16, 0, 16, 16), (63, 0, 63, 63), (64, 0, 224, 256), (16, 24, 24, 24), (16, 112, 112, 128)],
)
def test_the_size_of_the_input(
    tmp_path: Path, make_images: MakeImages, pixels: int, asked: int, size: int, resize_to: int
) -> None:
    folder = make_images(tmp_path / "d", {"": 2}, classes=2, size=pixels)
    data = open_data(DataSettings(str(folder), image_size=asked, val_fraction=0.0))
    assert (data.preprocess.size, data.preprocess.resize_to) == (size, resize_to)
    assert data.test.fetch(torch.tensor([0])).shape == (1, 3, size, size)


def test_pictures_of_different_sizes_take_the_large_one(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"": 2}, classes=2)
    make_images(tmp_path / "other", {"": 1}, classes=1, size=17)
    (tmp_path / "other" / "class0" / "00.png").rename(folder / "class0" / "00.png")
    assert open_data(DataSettings(str(folder), val_fraction=0.0)).preprocess.size == 224


def test_too_many_pictures_for_memory_are_read_from_disk(
    image_folder: Path, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", 100)
    lazy = open_data(DataSettings(str(image_folder)))
    assert isinstance(lazy.train.source, EncodedImages)
    positions = torch.tensor([0, 7, 41])
    assert torch.equal(lazy.train.fetch(positions), data.train.fetch(positions))
    assert lazy.fingerprint == data.fingerprint


def test_a_folder_that_moved_is_opened_again(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"": 4}, classes=2)
    config = open_data(DataSettings(str(folder), split_seed=2)).config
    moved = folder.rename(tmp_path / "elsewhere")
    assert len(reopen_data(config, str(moved)).test) == 2


def test_folders_inside_a_class_folder_are_of_that_class(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"train": 5, "val": 2}, classes=2)
    (folder / "train" / "class1" / "deep" / "er").mkdir(parents=True)
    for number in (3, 4):
        name = f"{number:02}.png"
        (folder / "train" / "class1" / name).rename(folder / "train" / "class1" / "deep" / "er" / name)
    data = open_data(DataSettings(str(folder), val_fraction=0.0))
    assert data.train.labels.bincount().tolist() == [5, 5]
    assert data.notes == (
        "There is no test split: " + str(folder / "val") + " is used only to report, never to choose",
    )


def test_other_files_are_said_and_hidden_ones_are_not(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"train": 3, "val": 2}, classes=2)
    clean = open_data(DataSettings(str(folder)))
    (folder / "train" / "README.md").write_text("x")
    (folder / "train" / "loose.png").write_bytes(b"x")
    (folder / "val" / "class0" / "notes.txt").write_text("x")
    for hidden in ("train/class0/._00.png", "train/class1/.DS_Store", "train/.cache/a.png"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_bytes(b"x")
    data = open_data(DataSettings(str(folder)))
    assert data.notes[0].startswith("3 file(s) were ignored")
    assert all(name in data.notes[0] for name in ("README.md", "loose.png", "notes.txt"))
    assert data.fingerprint == clean.fingerprint


def test_links_are_followed_and_said(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"": 4}, classes=2)
    pool = make_images(tmp_path / "pool", {"": 3}, classes=1) / "class0"
    (folder / "class0" / "inside.png").symlink_to(folder / "class0" / "00.png")
    (folder / "class0" / "outside.png").symlink_to(pool / "00.png")
    (folder / "class1" / "more").symlink_to(pool)
    (folder / "class1" / "loop").symlink_to(folder)
    data = open_data(DataSettings(str(folder), val_fraction=0.0))
    assert "4 image(s) are links to files outside" in data.notes[0]
    assert torch.cat([data.train.labels, data.test.labels]).bincount().tolist() == [6, 7]


def test_unicode_names(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"train": 3, "val": 2}, classes=2)
    for part, form in (("train", "NFC"), ("val", "NFD")):
        (folder / part / "class1").rename(folder / part / unicodedata.normalize(form, "café ☕"))
        (folder / part / "class0").rename(folder / part / "花")
    (folder / "train" / "花" / "00.png").rename(folder / "train" / "花" / "写真 1.png")
    if os.name == "posix":
        broken = os.fsencode(folder / "train" / "花") + b"/\xff.png"
        (folder / "train" / "花" / "01.png").rename(os.fsdecode(broken))
    assert open_data(DataSettings(str(folder))).preprocess.labels == ("café ☕", "花")


@pytest.mark.parametrize("channels", [1, 3])
def test_an_input_that_is_not_square(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    folder = make_images(tmp_path / "d", {"train": 3, "val": 2}, classes=2, size=30)
    settings = DataSettings(str(folder), image_size=(72, 120), channels=channels, val_fraction=0.0)
    kept = open_data(settings)
    preprocess = kept.preprocess
    assert (preprocess.shape, preprocess.resize_to) == ((channels, 72, 120), round(72 * 256 / 224))
    assert preprocess.color == ("L" if channels == 1 else "RGB")
    images = kept.test.fetch(torch.arange(4))
    assert images.shape == (4, channels, 72, 120)
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", 10 * preprocess.picture_bytes - 1)
    read = open_data(settings)
    assert isinstance(read.test.source, EncodedImages)
    assert torch.equal(read.test.fetch(torch.arange(4)), images)
    assert read.fingerprint == kept.fingerprint
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", 10 * preprocess.picture_bytes)
    assert not isinstance(open_data(settings).test.source, EncodedImages)
    (images, _) = next(eval_batches(kept.test, preprocess))
    assert images.shape == (4, channels, 72, 120)
