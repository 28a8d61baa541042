"""Folders that cannot be used: each is refused with its reason, before any training."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from imf_deploy.data import open_data
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.settings import DataSettings

MakeImages = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, make_images: MakeImages) -> Path:
    return make_images(tmp_path / "d", {"train": 4, "val": 2}, classes=3)


def problem(folder: Path, **options: object) -> ImfDeployError:
    with pytest.raises(ImfDeployError) as caught:
        open_data(DataSettings(str(folder), **options))  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.hint
    return caught.value


def test_empty(tmp_path: Path) -> None:
    assert "holds no usable images" in str(problem(tmp_path))


def test_a_class_without_images(folder: Path) -> None:
    for path in (folder / "train" / "class1").iterdir():
        path.unlink()
    assert "class1" in str(problem(folder))


def test_files_that_are_no_images(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("hello")
    assert "holds no usable images" in str(problem(tmp_path))


def test_one_class(tmp_path: Path, make_images: MakeImages) -> None:
    assert "one class only (class0)" in str(problem(make_images(tmp_path / "d", {"": 3}, classes=1)))


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_corrupt_image_is_named(folder: Path, part: str) -> None:
    bad = folder / part / "class1" / "01.png"
    bad.write_bytes(b"this is no picture")
    assert str(bad) in str(problem(folder))


def test_a_truncated_image_is_named(folder: Path) -> None:
    bad = folder / "train" / "class2" / "03.png"
    bad.write_bytes(bad.read_bytes()[:-200])
    assert str(bad) in str(problem(folder))


def test_an_image_of_zero_bytes_is_named(folder: Path) -> None:
    bad = folder / "val" / "class0" / "00.png"
    bad.write_bytes(b"")
    assert str(bad) in str(problem(folder))


def test_different_classes_in_train_and_val(folder: Path) -> None:
    (folder / "val" / "class1").rename(folder / "val" / "another")
    error = problem(folder)
    assert "missing: ['class1'], surplus: ['another']" in str(error)
    assert str(folder / "val") in str(error)


def test_a_class_with_one_image(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "d", {"": 4}, classes=2)
    for number in range(1, 4):
        (folder / "class1" / f"{number:02}.png").unlink()
    assert "class 'class1' has 1 training image(s)" in str(problem(folder))


def test_val_without_train(folder: Path) -> None:
    shutil.rmtree(folder / "train")
    assert isinstance(problem(folder), UsageError)


def test_no_such_folder(tmp_path: Path) -> None:
    error = problem(tmp_path / "nowhere")
    assert isinstance(error, UsageError)
    assert "fashion-mnist-subset" in str(error)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_an_impossible_fraction(folder: Path, fraction: float) -> None:
    with pytest.raises(UsageError, match="`val_fraction`"):
        open_data(DataSettings(str(folder), val_fraction=fraction))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read(folder: Path) -> None:
    bad = folder / "train" / "class1"
    bad.chmod(0)
    try:
        assert f"cannot read the folder {bad} (Permission denied)" in str(problem(folder))
    finally:
        bad.chmod(0o755)


def test_a_link_to_nothing_is_named(folder: Path) -> None:
    bad = folder / "train" / "class1" / "zz.png"
    bad.symlink_to(folder / "gone.png")
    assert f"cannot read the image {bad} (No such file" in str(problem(folder))


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_class_name_that_is_not_utf_8(folder: Path) -> None:
    (folder / "train" / "class1").rename(os.fsdecode(os.fsencode(folder / "train") + b"/caf\xe9"))
    assert "caf\\xe9' is not UTF-8" in str(problem(folder))
