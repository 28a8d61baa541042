"""The data named by a record is checked, and never causes a download."""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.data import open_data, reopen_data
from imf_deploy.data.encoded import open_parts
from imf_deploy.data.named import NAMED
from imf_deploy.data.open import recorded_data
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.limits import LARGEST_SIDE, MOST_CLASSES
from imf_deploy.preprocess import Preprocess
from imf_deploy.settings import DataSettings

GOOD: dict[str, Any] = {
    "data": "fashion-mnist-subset",
    "data_root": "",
    "image_size": 0,
    "val_fraction": 0.1,
    "split_seed": 0,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data", None), ("data", ""), ("data", 3), ("data", ["a"]), ("data", "x" * (1 << 21)),
        ("data_root", None), ("data_root", 1), ("data_root", "x" * (1 << 21)),
        ("image_size", -3), ("image_size", 10**7), ("image_size", 1.5), ("image_size", True),
        ("image_size", None),
        ("val_fraction", 1), ("val_fraction", -0.1), ("val_fraction", float("nan")),
        ("val_fraction", "0.1"), ("val_fraction", None),
        ("split_seed", 1 << 63), ("split_seed", 10**400), ("split_seed", 0.5), ("split_seed", None),
        ("other", 1), ("", ""), (None, None), (7, 7), ("\x1b[31m", 1),
    ],
)  # fmt: skip
def test_damaged_fields(name: Any, value: Any) -> None:
    with pytest.raises(ImfDeployError, match="the record of the data is damaged") as caught:
        reopen_data(GOOD | {name: value})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("record", [None, [], "text", {}, {"data_root": ""}])
def test_what_is_not_a_record(record: Any) -> None:
    with pytest.raises(ImfDeployError, match="the record of the data is damaged"):
        reopen_data(record)


def test_a_whole_record_is_read() -> None:
    assert recorded_data(GOOD) == DataSettings()
    assert recorded_data(GOOD | {"val_fraction": 0}).val_fraction == 0


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": LARGEST_SIDE + 1},
        {"image_size": -3},
        {"split_seed": 1 << 70},
        {"data": "x" * (1 << 21)},
    ],
)
def test_options_out_of_their_bounds(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        open_data(DataSettings(**options))


@pytest.mark.parametrize("name", list(NAMED))
def test_a_record_never_downloads(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(ImfDeployError, match=f"{name} is not in {tmp_path}") as caught:
        reopen_data(GOOD | {"data": name, "data_root": str(tmp_path)})
    assert f"`data` {name}" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_names_the_whole_disk() -> None:
    with pytest.raises(ImfDeployError) as caught:
        reopen_data(GOOD | {"data": "/"})
    assert caught.value.hint


def test_data_that_is_given_replaces_what_is_recorded(
    tmp_path: Path, make_images: Callable[..., Path]
) -> None:
    folder = make_images(tmp_path / "d", {"train": 4, "val": 2}, classes=2)
    assert len(reopen_data(GOOD | {"data": "/"}, str(folder)).test) == 4


PREPROCESS: dict[str, Any] = json.loads(
    json.dumps(asdict(Preprocess(16, "crop", 18, (0.5,) * 3, (0.5,) * 3, ("a", "b"))))
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 0), ("size", -3), ("size", 10**7), ("size", "16"), ("size", True), ("size", None),
        ("resize_to", 0), ("resize_to", 10**7), ("resize_to", 2.5),
        ("mean", [0.5] * 2), ("mean", [float("nan")] * 3), ("mean", None), ("mean", ["x"] * 3),
        ("std", [0.0] * 3), ("std", [float("inf")] * 3), ("std", [10**400] * 3),
        ("labels", []), ("labels", "ab"), ("labels", None), ("labels", {"a": 1}),
        ("resize", "stretch"), ("resize", []), ("color", "CMYK"), ("color", None),
    ],
)  # fmt: skip
def test_damaged_preprocessing(name: str, value: Any) -> None:
    with pytest.raises(ImfDeployError, match="the preprocessing record is damaged"):
        Preprocess.from_dict(PREPROCESS | {name: value})


def test_preprocessing_without_a_field() -> None:
    assert Preprocess.from_dict(
        {key: value for key, value in PREPROCESS.items() if key != "interpolation"}
    ) == Preprocess.from_dict(PREPROCESS)  # as release 0.1.0 wrote it
    for name in PREPROCESS.keys() - {"interpolation"}:
        with pytest.raises(ImfDeployError, match="the preprocessing record is damaged"):
            Preprocess.from_dict({key: value for key, value in PREPROCESS.items() if key != name})


def test_the_largest_input_can_be_recorded(tmp_path: Path, make_images: Callable[..., Path]) -> None:
    folder = make_images(tmp_path / "d", {"train": 2, "val": 1}, classes=2)
    data = open_data(DataSettings(str(folder), image_size=LARGEST_SIDE // 8))
    assert Preprocess.from_dict(json.loads(json.dumps(asdict(data.preprocess)))) == data.preprocess
    edge = PREPROCESS | {"size": LARGEST_SIDE, "resize_to": round(LARGEST_SIDE * 256 / 224)}
    assert Preprocess.from_dict(edge).size == LARGEST_SIDE


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_root_that_is_not_utf_8() -> None:
    with pytest.raises(UsageError, match="is not UTF-8"):
        open_data(DataSettings("cifar10", os.fsdecode(b"/tmp/caf\xe9")))


def test_more_classes_than_a_record_may_name() -> None:
    with pytest.raises(UsageError, match="big has 100,001 classes, and at most 100,000 are supported"):
        open_parts("big", {}, [str(number) for number in range(MOST_CLASSES + 1)], DataSettings(), "")
