"""The main job on loose photos: a table of labels, uneven classes, and images without labels."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
COUNTS = {"fox": 16, "owl": 9, "elk": 4}


@pytest.fixture
def photos(image_folder: Path, tmp_path: Path) -> Path:
    """``photos/*.png``, ``labels.csv`` and ``more/*.png``."""
    rows = []
    for place in ("photos", "more"):
        (tmp_path / place).mkdir()
    for number, (name, count) in enumerate(COUNTS.items()):
        for index, path in enumerate(sorted((image_folder / "train" / f"class{number}").iterdir())):
            place = "photos" if index < count else "more"
            copy = shutil.copy(path, tmp_path / place / f"{number}{index:02}.png")
            if place == "photos":
                rows.append((Path(copy).name, name))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "class"), *rows])
    return tmp_path


def test_photos_become_files_and_a_report(here: Cli, quick: list[str], photos: Path) -> None:
    command = [*quick, "--data", photos / "photos", "--labels", photos / "labels.csv", "--unlabelled"]
    command += [photos / "more", "--balance", "sampling", "--batch-size", "8", "--output", photos / "out"]
    result = here(*command)
    assert result.code == 0, result.err
    report = json.loads((photos / "out" / "report.json").read_text())
    assert [(row["label"], row["train"], row["validation"], row["test"]) for row in report["classes"]] == [
        ("elk", 2, 1, 1),
        ("fox", 12, 1, 3),
        ("owl", 6, 1, 2),
    ]
    assert report["unlabelled"] == 19
    assert any("Class 'elk' has 2 training image(s) and 'fox' 12" in note for note in report["notes"])
    (product,) = (photos / "out" / "products").glob("*.safetensors")
    labels = json.loads(Path(f"{product}.json").read_text())["preprocess"]["labels"]
    assert labels == ["elk", "fox", "owl"]
    # Later commands find the images and their labels by the record, and need no unlabelled ones.
    shutil.rmtree(photos / "more")
    (file,) = (photos / "out" / "deploy").glob("*.onnx")
    again = here("verify", file, "--against", product)
    assert again.code == 0, again.err
