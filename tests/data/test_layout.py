"""Splits and classes are distinguished by names and content, and ambiguous layouts are refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from imf_deploy.data import DataSet, open_data
from imf_deploy.data.layout import find_layout
from imf_deploy.data.roles import role_of, word_in
from imf_deploy.errors import UsageError
from imf_deploy.settings import DataSettings

MakeImages = Callable[..., Path]


def opened(folder: Path) -> DataSet:
    return open_data(DataSettings(str(folder), val_fraction=0.0))


def flat(folder: Path, count: int = 4) -> Path:
    """Put images directly into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = Image.new("RGB", (16, 16), (number, 40 * len(folder.name) % 256, 7))
        image.save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *((name, "train") for name in ("train", "Training", "TRAIN", "train_set", "TrainData", "train2017")),
        *((name, "validation") for name in ("val", "Valid", "validation", "dev", "eval", "val-images")),
        *(
            (name, "test")
            for name in ("test", "Testing", "TEST", "test1", "images_test", "testset", "hold-out")
        ),
        *(
            (name, None)
            for name in ("seg_train", "latest", "testimony", "fold_0", "trainer", "images", "värld")
        ),
    ],
)
def test_names_of_splits(name: str, role: str | None) -> None:
    assert role_of(name) == role


def test_the_first_word_of_a_shard_decides() -> None:
    assert word_in("imagenet-Train-000") == "train"
    assert word_in("dev-of-train-1") == "dev"
    assert word_in("latest-contest-000") is None


@pytest.mark.parametrize(
    "names",
    [("Training", "Testing"), ("Train", "Val"), ("train", "Test"), ("train", "dev"), ("TRAIN", "eval")],
)
def test_usual_names_in_any_capitals(tmp_path: Path, make_images: MakeImages, names: tuple[str, str]) -> None:
    data = opened(make_images(tmp_path / "d", {names[0]: 4, names[1]: 2}, classes=3))
    assert data.preprocess.labels == ("class0", "class1", "class2")
    assert (len(data.train), len(data.test)) == (12, 6)


def test_three_usual_names(tmp_path: Path, make_images: MakeImages) -> None:
    data = opened(make_images(tmp_path / "d", {"Train": 4, "Dev": 3, "Test_images": 2}, classes=2))
    assert (len(data.train), len(data.validation), len(data.test)) == (8, 6, 4)


@pytest.mark.parametrize(
    "names", [("train", "Training"), ("val", "dev"), ("test", "Testing"), ("val", "eval")]
)
def test_two_folders_for_one_split(tmp_path: Path, make_images: MakeImages, names: tuple[str, str]) -> None:
    folder = make_images(tmp_path / "d", dict.fromkeys({"train", *names}, 2), classes=2)
    with pytest.raises(UsageError) as caught:
        opened(folder)
    assert all(str(folder / name) in caught.value.what for name in names)
    assert "split" in caught.value.what


@pytest.mark.parametrize(
    "names",
    [
        ("fold_0", "fold_1"),
        ("fold1", "fold2", "fold3"),
        ("part_1", "part_2"),
        ("north", "south"),
        ("A", "B", "C"),
    ],
)
def test_folders_of_the_same_names_are_not_classes(
    tmp_path: Path, make_images: MakeImages, names: tuple[str, ...]
) -> None:
    folder = make_images(tmp_path / "d", dict.fromkeys(names, 2), classes=3)
    with pytest.raises(UsageError) as caught:
        opened(folder)
    assert "look like splits" in caught.value.what
    assert all(name in caught.value.what for name in names)
    assert "train, val and test" in caught.value.hint


def test_mostly_the_same_names(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"a": 2, "b": 2}, classes=3)
    (folder / "b" / "class2").rename(folder / "b" / "other")
    flat(folder / "c")
    with pytest.raises(UsageError, match="look like splits"):
        opened(folder)


def test_folds_that_share_one_class(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"fold0": 3, "fold1": 3}, classes=1)
    with pytest.raises(UsageError, match="look like splits"):
        opened(folder)


@pytest.mark.parametrize("names", [("seg_train", "seg_test"), ("cifar-train", "cifar-val", "cifar-test")])
def test_names_that_hold_the_name_of_a_split(
    tmp_path: Path, make_images: MakeImages, names: tuple[str, ...]
) -> None:
    for name in names:
        make_images(tmp_path / "d" / name, {name: 2}, classes=2)
    with pytest.raises(UsageError, match="look like splits") as caught:
        opened(tmp_path / "d")
    assert all(name in caught.value.what for name in names)


def test_below_train_the_same_names_are_folders_of_a_class(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"train/cat": 3, "train/dog": 3}, classes=2)
    data = opened(folder)
    assert data.preprocess.labels == ("cat", "dog")
    assert len(data.train) + len(data.test) == 12


def test_one_folder_of_the_same_name_is_usual(tmp_path: Path) -> None:
    for name in ("class1", "class2", "3"):
        flat(tmp_path / "d" / name / "images")
    assert opened(tmp_path / "d").preprocess.labels == ("3", "class1", "class2")


def test_splits_one_level_down(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d" / "brain", {"Training": 2, "Testing": 2}, classes=2)
    flat(tmp_path / "d" / "samples")
    with pytest.raises(UsageError) as caught:
        opened(tmp_path / "d")
    assert caught.value.hint == f"Use `data` {folder}"


def test_splits_below_every_class(tmp_path: Path) -> None:
    for name in ("cat/train", "cat/test", "dog/train", "dog/test"):
        flat(tmp_path / "d" / name)
    with pytest.raises(UsageError, match="cat, dog in") as caught:
        opened(tmp_path / "d")
    assert "each hold splits (test, train)" in caught.value.what


@pytest.mark.parametrize("name", ["train", "test", "val", "Dev"])
def test_a_class_with_the_name_of_a_split(tmp_path: Path, name: str) -> None:
    for other in ("bus", "car", name):
        flat(tmp_path / "d" / other)
    data = opened(tmp_path / "d")
    assert data.preprocess.labels == tuple(sorted(("bus", "car", name)))
    assert data.notes[0] == f"Used as classes, because they contain images directly: {name}"


@pytest.mark.parametrize(
    "names", [("train", "test"), ("train", "test1"), ("train", "val", "test", "samples")]
)
def test_splits_without_class_folders(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        flat(tmp_path / "d" / name)
    with pytest.raises(UsageError, match="no class folders"):
        opened(tmp_path / "d")


def test_a_split_beside_classes_is_ambiguous(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"train": 2}, classes=2)
    flat(folder / "bus")
    with pytest.raises(UsageError, match="next to bus, which look like classes") as caught:
        opened(folder)
    assert "If train is a class" in caught.value.hint


@pytest.mark.parametrize("inside", ["", "unknown", "images"])
def test_an_unlabelled_test_folder_is_ignored_and_said(
    tmp_path: Path, make_images: MakeImages, inside: str
) -> None:
    folder = make_images(tmp_path / "d", {"train": 6, "val": 2}, classes=2)
    known = opened(folder)
    flat(folder / "test" / inside)
    data = opened(folder)
    assert data.notes[0] == f"{folder / 'test'} was ignored: without class folders, its images have no labels"
    assert data.fingerprint == known.fingerprint


def test_folders_beside_the_splits_are_said(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"train": 6, "val": 2, "extra": 2}, classes=2)
    (folder / "empty").mkdir()
    (folder / "__MACOSX" / "train").mkdir(parents=True)
    assert opened(folder).notes[0] == f"Folders next to the splits were ignored: {folder / 'extra'}"


def test_a_split_that_is_there_twice(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"training_set/training_set": 4, "test_set/test_set": 2}, classes=2)
    layout = find_layout(folder)
    assert layout.splits == {
        "train": folder / "training_set" / "training_set",
        "test": folder / "test_set" / "test_set",
    }
    assert (len(opened(folder).train), len(opened(folder).test)) == (8, 4)


def test_a_copy_of_the_training_images_is_said(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"train": 4}, classes=3)
    shutil.copytree(folder / "train", folder / "val")
    for number, path in enumerate(sorted((folder / "val").rglob("*.png"))):
        path.rename(path.with_name(f"other-{number}.png"))
    (note,) = (note for note in opened(folder).notes if "copies" in note)
    assert note.startswith("All 12 test images are copies of training images")


def test_some_copies_are_counted(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"train": 4, "val": 3, "test": 2}, classes=2)
    assert not [note for note in opened(folder).notes if "copies" in note]
    shutil.copy(folder / "train" / "class0" / "00.png", folder / "val" / "class0" / "zz.png")
    shutil.copy(folder / "val" / "class1" / "01.png", folder / "test" / "class1" / "zz.png")
    said = [note.split(" (")[0] for note in opened(folder).notes]
    assert said == [
        "1 of 7 validation images are copies of training images",
        "1 of 5 test images are copies of validation images",
    ]


def test_duplicates_on_both_sides_of_a_hold_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        place = flat(tmp_path / "d" / name, 1)
        for number in range(9):
            shutil.copy(place / "0.png", place / f"copy{number}.png")
    notes = opened(tmp_path / "d").notes
    assert any(note.startswith("All 4 test images are copies of training images") for note in notes)


@pytest.mark.parametrize("inner", [("a", "b"), ("imgs",)])
def test_a_class_named_train_with_the_folders_of_the_other_classes_is_refused(
    tmp_path: Path, inner: tuple[str, ...]
) -> None:
    for top in ("bus", "car", "train"):
        for name in inner:
            flat(tmp_path / top / name, 1)
    with pytest.raises(UsageError, match="bus, car, with folders of the same names as in train"):
        find_layout(tmp_path)


def test_loose_images_do_not_make_a_split_a_class(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("cat", "cow", "dog"):
            flat(tmp_path / split / name)
    flat(tmp_path / "val")
    assert set(find_layout(tmp_path).splits) == {"train", "validation"}
