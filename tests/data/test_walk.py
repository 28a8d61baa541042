"""Folders and shards of anything but regular files, links to themselves, and names of every kind."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from imf_deploy.data import DataSet, open_data, walk
from imf_deploy.data.classes import class_name
from imf_deploy.data.image_file import LARGEST_FILE
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.settings import DataSettings

MakeImages = Callable[..., Path]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="named pipes and devices are POSIX")


@pytest.fixture
def folder(tmp_path: Path, make_images: MakeImages) -> Path:
    return make_images(tmp_path / "d", {"train": 4, "val": 2}, classes=2)


def opened(data: object) -> DataSet:
    return open_data(DataSettings(str(data), val_fraction=0.0))


def problem(data: object) -> ImfDeployError:
    with pytest.raises(ImfDeployError) as caught:
        opened(data)
    assert "\n" not in str(caught.value)
    return caught.value


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has 108 bytes at most
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(before)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def far_too_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(LARGEST_FILE + 1)


KINDS = [
    (pipe, "a named pipe"),
    (unix_socket, "a socket"),
    (endless, "a device"),
    (link_to_itself, "symbolic links"),
    (far_too_large, "larger than 256 MiB"),
]


@pytest.mark.parametrize(("make", "said"), KINDS)
@pytest.mark.parametrize("name", ["00a.png", "zz.jpg"])
def test_what_is_not_a_file_is_refused_by_name(
    folder: Path, make: Callable[[Path], None], said: str, name: str
) -> None:
    bad = folder / "train" / "class1" / name
    make(bad)
    error = problem(folder)
    assert f"cannot read the image {bad} (" in error.what
    assert said in error.what


@pytest.mark.parametrize(("make", "said"), KINDS[:4])
def test_without_the_ending_of_an_image_it_is_ignored(
    folder: Path, make: Callable[[Path], None], said: str
) -> None:
    make(folder / "train" / "class1" / "other")
    make(folder / "val" / "other")
    data = opened(folder)
    assert data.notes[0].startswith("2 file(s) were ignored")
    assert (len(data.train), len(data.test)) == (8, 4)


@pytest.mark.parametrize(("make", "said"), KINDS[:4])
def test_as_a_shard(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    make(tmp_path / "train-0.tar")
    for data in (tmp_path, tmp_path / "train-0.tar"):
        error = problem(data)
        assert isinstance(error, UsageError)
        assert "train-0.tar" in error.what


def test_loops_of_folders(folder: Path) -> None:
    inside = folder / "train" / "class0"
    (inside / "up").symlink_to(folder)
    (inside / "a").symlink_to("b")
    (inside / "b").symlink_to("a")
    (folder / "round").symlink_to(folder)
    assert len(opened(folder).train) == 8


def test_a_folder_of_something_else_is_left_soon(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "OTHERS_LIMIT", 20)
    place = folder / "train" / "class0" / "more"
    place.mkdir()
    for number in range(70):
        (place / f"{number}.txt").touch()
    error = problem(folder)
    assert "does not look like a folder of images: it holds more than 20 other files" in error.what
    for path in sorted(place.iterdir())[25:]:
        path.unlink()
    assert len(opened(folder).train) == 8


def test_a_whole_disk_is_refused_soon() -> None:
    assert problem("/").hint


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a\x1b[31mb", "'a\\x1b[31mb' holds control characters"),
        ("a\nb", "'a\\nb' holds control characters"),
        ("a\u202eb", "'a\\u202eb' holds control characters"),
        ("caf\udce9", "'caf\\xe9' is not UTF-8"),
        ("a\ud800", "'a\\ud800' is not UTF-8"),
        ("x" * 256, "is longer than 255 characters"),
    ],
)
def test_class_names_that_cannot_be_shown(name: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        class_name(name, "here")
    assert said in caught.value.what
    assert "(here)" in caught.value.what
    str(caught.value).encode()


@pytest.mark.parametrize("name", ["café ☕", "نامه\u200cها", "👩\u200d🔬", "花", "a b/c"])
def test_class_names_of_any_script(name: str) -> None:
    assert class_name(name, "here") == name


def test_a_class_folder_with_a_control_character(folder: Path) -> None:
    for part in ("train", "val"):
        (folder / part / "class1").rename(folder / part / "evil\x1b[2Jname")
    error = problem(folder)
    assert "evil\\x1b[2Jname" in error.what
    assert str(folder / "train") in error.what


def test_paths_that_are_not_utf_8_are_refused_before_any_work(folder: Path) -> None:
    other = Path(os.fsdecode(os.fsencode(folder.parent) + b"/caf\xe9"))
    shutil.copytree(folder, other)
    error = problem(other)
    assert isinstance(error, UsageError)
    assert "caf\\xe9 is not UTF-8" in error.what


def test_a_folder_inside_one_that_is_not_utf_8(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Path(os.fsdecode(os.fsencode(folder.parent) + b"/caf\xe9"))
    shutil.copytree(folder, other)
    monkeypatch.chdir(other)
    assert "caf\\xe9 is not UTF-8" in problem(".").what


def test_a_file_that_is_not_utf_8_can_be_noted(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder / "train") + b"/caf\xe9.txt")).touch()
    (note,) = (note for note in opened(folder).notes if "ignored" in note)
    assert "caf\\xe9.txt" in note
    note.encode()


def test_names_that_no_file_system_takes() -> None:
    for data in ("x" * 5000, "x" * 5000 + ".tar", "a\0b", "a\0b.tar"):
        assert isinstance(problem(data), UsageError)
