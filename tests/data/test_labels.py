"""Images whose labels are in a table: which images, classes and splits they become."""

import csv
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from imf_deploy.data import DataSet, open_data, reopen_data
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.settings import DataSettings

Rows = Iterable[tuple[str, ...]]


@pytest.fixture
def pictures(tmp_path: Path, image_folder: Path) -> Path:
    """``pics/0-00.png`` …: three classes of 16 images in one folder."""
    folder = tmp_path / "pics"
    folder.mkdir()
    for path in (image_folder / "train").rglob("*.png"):
        shutil.copy(path, folder / f"{path.parent.name[-1]}-{path.name}")
    return folder


NAMES = ("fox", "owl", "elk")


def all_rows(pictures: Path) -> list[tuple[str, str]]:
    return [(path.name, NAMES[int(path.name[0])]) for path in sorted(pictures.glob("*.png"))]


def write(path: Path, rows: Rows, header: tuple[str, ...] = ("path", "label")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def opened(folder: Path, table: Path, **options: object) -> DataSet:
    return open_data(DataSettings(str(folder), labels=str(table), **options))  # type: ignore[arg-type]


def problem(folder: Path, table: Path) -> ImfDeployError:
    with pytest.raises(ImfDeployError) as caught:
        opened(folder, table)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


def test_a_table_gives_what_class_folders_give(image_folder: Path, pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "classes"
    for name, label in all_rows(pictures):
        (folder / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures / name, folder / label)
    same = open_data(DataSettings(str(folder)))
    found = opened(pictures, write(tmp_path / "labels.csv", all_rows(pictures)))
    assert found.preprocess == same.preprocess
    assert found.preprocess.labels == ("elk", "fox", "owl")
    for own, its in ((found.train, same.train), (found.validation, same.validation), (found.test, same.test)):
        order = own.labels.argsort(stable=True)  # the table is in another order than the folders
        assert len(own) == len(its)
        assert torch.equal(own.labels.bincount(), its.labels.bincount())
        assert own.labels[order].tolist() == its.labels.tolist()


def test_the_fingerprint_is_that_of_images_and_labels(pictures: Path, tmp_path: Path) -> None:
    rows = all_rows(pictures)
    first = opened(pictures, write(tmp_path / "a.csv", rows)).fingerprint
    assert opened(pictures, write(tmp_path / "b.csv", rows, ("File Name", "CLASS"))).fingerprint == first
    rows[0] = (rows[0][0], "owl")
    assert opened(pictures, write(tmp_path / "b.csv", rows)).fingerprint != first


def test_splits_by_a_column(pictures: Path, tmp_path: Path) -> None:
    rows = [
        (name, label, ("Training", "val", "TEST")[min(int(name[2:4]) // 6, 2)])
        for name, label in all_rows(pictures)
    ]
    data = opened(pictures, write(tmp_path / "labels.csv", rows, ("image", "target", "split")))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [18, 18, 12]


def test_splits_by_the_first_folder(image_folder: Path, tmp_path: Path) -> None:
    rows = [
        (path.relative_to(image_folder).as_posix(), path.parent.name) for path in image_folder.rglob("*.png")
    ]
    data = opened(image_folder, write(tmp_path / "labels.csv", rows))
    same = open_data(DataSettings(str(image_folder)))
    assert len(data.test) == len(same.test) == 18
    assert len(data.train) == len(same.train)


def test_paths_relative_to_the_table(pictures: Path, tmp_path: Path) -> None:
    rows = [(f"pics/{name}", label) for name, label in all_rows(pictures)]
    (tmp_path / "elsewhere").mkdir()
    assert len(opened(tmp_path / "elsewhere", write(tmp_path / "labels.csv", rows)).test) == 9


def test_absolute_paths_in_the_folder(pictures: Path, tmp_path: Path) -> None:
    rows = [(str(pictures / name), label) for name, label in all_rows(pictures)]
    (tmp_path / "link").symlink_to(pictures)
    table = write(tmp_path / "labels.csv", rows)
    known = opened(pictures, table)
    assert opened(tmp_path / "link", table).test.labels.tolist() == known.test.labels.tolist()


def test_integers_are_named_by_a_file(pictures: Path, tmp_path: Path) -> None:
    rows = [(name, name[0]) for name, _ in all_rows(pictures)]
    table = write(tmp_path / "labels.csv", rows)
    assert opened(pictures, table).preprocess.labels == ("0", "1", "2")
    (tmp_path / "classes.txt").write_text("zebra\nape\nyak\n")
    assert opened(pictures, table).preprocess.labels == ("zebra", "ape", "yak")


def test_integers_are_in_their_order(pictures: Path, tmp_path: Path) -> None:
    rows = [(name, ("10", "9", "100")[int(name[0])]) for name, _ in all_rows(pictures)]
    assert opened(pictures, write(tmp_path / "labels.csv", rows)).preprocess.labels == ("9", "10", "100")


def test_notes(pictures: Path, tmp_path: Path) -> None:
    rows = all_rows(pictures)
    notes = " ".join(opened(pictures, write(tmp_path / "labels.csv", [*rows[:-2], rows[0]])).notes)
    assert "1 row(s)" in notes
    assert "2 image(s) are not used" in notes
    assert str(pictures / rows[-1][0]) in notes


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("gone.png", "fox"), "line 50 of {} names {folder}/gone.png, which does not exist"),
        (("", "fox"), "line 50 of {} has no value in the column 'path'"),
        (("0-00.png", " "), "line 50 of {} has no value in the column 'label'"),
        (("0-00.png", "owl"), "line 2 of {} gives {folder}/0-00.png the label 'fox', but line 50"),
        (("./x/../0-00.png", "owl"), "line 2 of {} gives {folder}/0-00.png the label 'fox', but line 50"),
        (("../labels.csv", "fox"), "line 50 of {} names ../labels.csv, which is not in {folder}"),
        (("/etc/passwd", "fox"), "line 50 of {} names /etc/passwd, which is not in {folder}"),
        ((".", "fox"), "line 50 of {} names ., which is not in {folder}"),
        (("a\0b.png", "fox"), "line 50 of {} names a path with a NUL character"),
        (("x" * 5000, "fox"), "line 50 of {} names"),
        (("0-00.png", "fox\x1b[31m"), "holds control characters (line 50 of {})"),
        (("0-00.png", "f" * 300), "is longer than 255 characters (line 50 of {})"),
    ],
)
def test_a_row_that_cannot_be_used(pictures: Path, tmp_path: Path, row: tuple[str, str], said: str) -> None:
    table = write(tmp_path / "labels.csv", [*all_rows(pictures), row])
    assert said.format(table, folder=pictures) in problem(pictures, table).what


def test_missing_images_are_counted(pictures: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "labels.csv", [(name[:-4], label) for name, label in all_rows(pictures)])
    assert "(48 of 48 images are missing)" in problem(pictures, table).what


def test_an_image_in_two_splits(pictures: Path, tmp_path: Path) -> None:
    rows = [(*row, "train") for row in all_rows(pictures)] + [("0-00.png", "fox", "test")]
    table = write(tmp_path / "labels.csv", rows, ("path", "label", "split"))
    assert "into the train split, but line 50" in problem(pictures, table).what


@pytest.mark.parametrize("split", ["fold1", "7"])
def test_an_unknown_split(pictures: Path, tmp_path: Path, split: str) -> None:
    rows = [(*row, split) for row in all_rows(pictures)]
    table = write(tmp_path / "labels.csv", rows, ("path", "label", "split"))
    assert f"line 2 of {table} puts its image into the split '{split}'" in problem(pictures, table).what


def test_no_training_split(pictures: Path, tmp_path: Path) -> None:
    rows = [(*row, "test") for row in all_rows(pictures)]
    table = write(tmp_path / "labels.csv", rows, ("path", "label", "split"))
    assert "lists no training image" in problem(pictures, table).what


def test_a_class_without_training_images(pictures: Path, tmp_path: Path) -> None:
    rows = [(*row, "test" if row[1] == "owl" else "train") for row in all_rows(pictures)]
    table = write(tmp_path / "labels.csv", rows, ("path", "label", "split"))
    assert "the class 'owl', which is not one of the 2 in the training images" in str(
        problem(pictures, table)
    )


def test_one_class(pictures: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "labels.csv", [(name, "fox") for name, _ in all_rows(pictures)])
    assert "one class only (fox)" in problem(pictures, table).what


def test_a_folder_in_place_of_an_image(pictures: Path, tmp_path: Path) -> None:
    (pictures / "inner").mkdir()
    table = write(tmp_path / "labels.csv", [*all_rows(pictures), ("inner", "fox")])
    assert "which is not a regular file" in problem(pictures, table).what


def test_a_damaged_image_is_named(pictures: Path, tmp_path: Path) -> None:
    (pictures / "0-03.png").write_bytes(b"no image")
    assert "0-03.png" in problem(pictures, write(tmp_path / "labels.csv", all_rows(pictures))).what


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("fashion-mnist-subset", "has labels of its own"),
        ("train-{0..3}.tar", "has labels of its own"),
        ("nowhere", "`data` nowhere is neither a folder"),
    ],
)
def test_data_that_is_no_folder(tmp_path: Path, data: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_data(DataSettings(data, labels=str(tmp_path / "labels.csv")))


def test_a_moved_folder(pictures: Path, tmp_path: Path) -> None:
    inside = write(pictures / "labels.csv", all_rows(pictures))
    data = opened(pictures, inside)
    moved = pictures.rename(tmp_path / "moved")
    assert reopen_data(data.config, str(moved)).fingerprint != ""
    outside = (moved / "labels.csv").rename(tmp_path / "other.csv")
    with pytest.raises(UsageError, match="does not exist"):
        reopen_data(data.config, str(moved))
    again = reopen_data(data.config, str(moved), labels=str(outside))
    assert again.test.labels.tolist() == data.test.labels.tolist()


class TestHuggingFace:
    """Folders with ``metadata.csv`` next to the images."""

    def test_one_table(self, pictures: Path) -> None:
        rows = all_rows(pictures)
        write(pictures / "metadata.csv", rows, ("file_name", "label"))
        data = open_data(DataSettings(str(pictures)))
        assert data.preprocess.labels == ("elk", "fox", "owl")
        assert f"Labels are read from {pictures / 'metadata.csv'}" in data.notes

    @pytest.mark.parametrize("ending", ["csv", "jsonl"])
    def test_a_table_for_each_split(self, pictures: Path, tmp_path: Path, ending: str) -> None:
        whole = tmp_path / "whole"
        for split in ("train", "validation", "test"):
            (whole / split).mkdir(parents=True)
            for path in pictures.iterdir():
                shutil.copy(path, whole / split / path.name)
            table = whole / split / f"metadata.{ending}"
            if ending == "csv":
                write(table, all_rows(pictures), ("file_name", "label"))
            else:
                lines = [
                    json.dumps({"file_name": name, "label": label}) for name, label in all_rows(pictures)
                ]
                table.write_text("\n".join(lines))
        data = open_data(DataSettings(str(whole)))
        assert [len(part) for part in (data.train, data.validation, data.test)] == [48, 48, 48]
        assert "All 48 test images are copies of training images" in " ".join(data.notes)

    def test_a_split_without_labels_is_ignored(self, pictures: Path, tmp_path: Path) -> None:
        whole = tmp_path / "whole"
        (whole / "test").mkdir(parents=True)
        pictures.rename(whole / "train")
        write(whole / "train" / "metadata.csv", all_rows(whole / "train"), ("file_name", "label"))
        data = open_data(DataSettings(str(whole)))
        assert len(data.test) == 9
        assert f"{whole / 'test'} was ignored" in " ".join(data.notes)

    def test_other_tables_are_ignored(self, image_folder: Path, tmp_path: Path) -> None:
        folder = tmp_path / "d"
        shutil.copytree(image_folder, folder)
        write(folder / "metadata.csv", [("a", "b")], ("file_name", "caption"))
        write(folder / "train" / "metadata.csv", [("a", "b")], ("id", "label"))
        assert open_data(DataSettings(str(folder))).preprocess.labels == ("class0", "class1", "class2")

    def test_a_damaged_table(self, image_folder: Path, pictures: Path, tmp_path: Path) -> None:
        folder = tmp_path / "d"
        shutil.copytree(image_folder, folder)
        (folder / "train" / "metadata.csv").write_bytes(b"file_name,caf\xe9,label\n")
        assert "metadata.csv" in " ".join(open_data(DataSettings(str(folder))).notes)
        (pictures / "metadata.csv").write_bytes(b"file_name,caf\xe9,label\n")
        with pytest.raises(ImfDeployError, match=r"metadata.csv is not UTF-8"):
            open_data(DataSettings(str(pictures)))

    def test_tables_that_contradict(self, pictures: Path) -> None:
        rows = all_rows(pictures)
        write(pictures / "metadata.csv", rows, ("file_name", "label"))
        (pictures / "metadata.jsonl").write_text('{"file_name": "0-00.png", "label": "owl"}')
        with pytest.raises(UsageError, match=r"metadata.csv and .*metadata.jsonl are both tables"):
            open_data(DataSettings(str(pictures)))

    def test_a_table_without_training_split(self, pictures: Path, tmp_path: Path) -> None:
        pictures.rename(tmp_path / "test")
        write(tmp_path / "test" / "metadata.csv", all_rows(tmp_path / "test"), ("file_name", "label"))
        with pytest.raises(UsageError, match="no such table of the training split"):
            open_data(DataSettings(str(tmp_path)))
