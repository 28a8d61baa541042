"""Sizes of images in the forms of options, records and messages."""

from typing import Any

import pytest

from imf_deploy.errors import UsageError
from imf_deploy.forms import read_typed
from imf_deploy.image_size import (
    pixels_text,
    read_image_size,
    read_size,
    shape_of,
    short,
    short_size,
    sides,
    size_text,
    undistorted,
)
from imf_deploy.models import ModelSpec
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.making import Block
from imf_deploy.settings import BenchSettings, DataSettings
from imf_deploy.settings.base import from_record, option_values


@pytest.mark.parametrize(
    ("text", "size", "shape"),
    [
        ("224", 224, (3, 224, 224)),
        ("24x40", (24, 40), (3, 24, 40)),
        (" 24X40 ", (24, 40), (3, 24, 40)),
        ("32x32", 32, (3, 32, 32)),
        ("1x24x40", (1, 24, 40), (1, 24, 40)),
        ("1x28x28", (1, 28, 28), (1, 28, 28)),
        ("3x24x24", 24, (3, 24, 24)),
    ],
)
def test_forms(text: str, size: Any, shape: tuple[int, int, int]) -> None:
    assert read_image_size(text) == size == short(shape)
    assert shape_of(size) == shape
    assert read_image_size(size_text(size)) == size
    if len(shape) == 3 and shape[0] == 3 and text.count("x") < 2:
        assert read_size(text) == short_size(size) == size
        assert sides(size) == shape[1:]


@pytest.mark.parametrize(
    ("size", "like", "expected"),
    [
        (224, 32, 224),
        (224, (24, 40), (224, 373)),
        (32, (40, 24), (53, 32)),
        ((16, 32), 8, 16),
        (7, (1, 3), (7, 21)),
    ],
)
def test_a_size_in_other_proportions(size: Any, like: Any, expected: Any) -> None:
    assert undistorted(size, like) == expected


def test_messages() -> None:
    assert [pixels_text(size) for size in (28, (24, 40), (1, 24, 40), (1, 28, 28))] == [
        "28 pixels", "24x40 pixels", "24x40 pixels and 1 channel", "28 pixels and 1 channel"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "x", "32x", "x32", "a", "24x40x", "-5", "24 x 40", "1x2x3x4", "1e3", "²4"]
)
def test_other_text(text: str) -> None:
    value: Any = text
    for make in (DataSettings, BenchSettings):
        with pytest.raises(UsageError, match=r"`image_size` .*HEIGHTxWIDTH, such as 160x256"):
            make(image_size=value)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("0x32", "`image_size` 0x32 is too small. Give 8 to 4096 pixels for the side, or for each of HEIGHT"),
        ("9999x1", "`image_size` 9999x1 is too small"),
        ((24, 4097), "`image_size` 24x4097 is too large"),
        (-3, "`image_size` -3 is too small"),
        (7, "`image_size` 7 is too small"),
        ("3x24x40", "HEIGHTxWIDTH"),
        ((1, 24, 40), "`image_size`"),
        (2.5, "`image_size`"),
    ],
)
def test_sizes_of_data_that_cannot_be_used(size: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        DataSettings(image_size=size)


def test_the_channels_of_a_measurement() -> None:
    size: Any = "2x8x8"
    with pytest.raises(UsageError, match="has 2 channels"):
        BenchSettings(image_size=size)
    with pytest.raises(UsageError, match="`channels` 2 cannot be used"):
        DataSettings(channels=2)


@pytest.mark.parametrize("size", [0, 224, (24, 40)])
def test_settings_of_data_come_back(size: Any) -> None:
    import json
    from dataclasses import asdict

    made = DataSettings(image_size=size, channels=1)
    assert from_record(DataSettings, json.loads(json.dumps(asdict(made)))) == made
    assert DataSettings(image_size=option_values(made)["image-size"], channels=1) == made
    assert DataSettings(image_size=(224, 224)).image_size == 224


@pytest.mark.parametrize(
    "size", [0, [0, 4], [4], [4, 4, 4, 4], [2, 4, 4], [4, 5000], "4", 2.5, [4.5, 4], None]
)
def test_sizes_that_a_record_cannot_hold(size: Any) -> None:
    spec = {"name": "resnet8", "num_classes": 3, "image_size": size}
    with pytest.raises(ValueError, match=r"^image_size should be a size in pixels, from 1 to 4096"):
        read_typed(ModelSpec, spec)
    with pytest.raises(ValueError, match=r"^size should be a size in pixels"):
        read_typed(Block, {"name": "a", "channels": 3, "size": size})


def test_squares_are_recorded_as_before() -> None:
    spec = ModelSpec("resnet8", 3, (3, 16, 16))
    assert (spec.image_size, spec.to_dict()["image_size"]) == (16, 16)
    assert ModelSpec("resnet8", 3, (16, 24)).to_dict()["image_size"] == [16, 24]
    for size in (16, (16, 24), (1, 16, 16), (1, 16, 24)):
        made = ModelSpec("resnet8", 3, size)
        assert ModelSpec.from_dict(made.to_dict()) == made
    assert Preprocess((16, 16), "none", 16, (0.5,), (0.5,), ("a",), "L").size == 16
