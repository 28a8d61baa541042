"""Images are prepared as pretrained weights expect, unless the settings say otherwise."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from imf_deploy.data import open_data, reopen_data, settings_for
from imf_deploy.errors import UsageError
from imf_deploy.preparation import Preparation
from imf_deploy.preprocess import Preprocess
from imf_deploy.settings import DataSettings

WEIGHTS = Preparation(300, 0.9, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic")


@pytest.fixture(scope="module")
def large(make_images: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 70 pixels, which are not small."""
    folder: Path = make_images(tmp_path_factory.mktemp("large") / "c", {"train": 4, "val": 2}, size=70)
    return folder


def prepared(folder: Path, **fields: Any) -> Preprocess:
    return open_data(DataSettings(str(folder), starting=WEIGHTS, **fields)).preprocess


def test_size_crop_filter_and_statistics_follow_the_weights(large: Path) -> None:
    found = prepared(large)
    assert (found.size, found.resize_to, found.interpolation) == (300, 333, "bicubic")
    assert (found.mean, found.std) == (WEIGHTS.mean, WEIGHTS.std)


def test_a_given_size_keeps_the_fraction_of_the_crop(large: Path) -> None:
    found = prepared(large, image_size=96)
    assert (found.size, found.resize_to, found.mean) == (96, 107, WEIGHTS.mean)
    assert prepared(large, image_size=(90, 180)).resize_to == 100


def test_small_images_keep_their_size(image_folder: Path) -> None:
    found = prepared(image_folder)
    assert (found.size, found.resize_to, found.mean) == (16, 16, WEIGHTS.mean)


def test_the_users_own_values_win(large: Path) -> None:
    found = prepared(
        large,
        mean="0.5,0.5,0.5",
        std="0.2,0.2,0.2",
        interpolation="bilinear",
        crop_fraction=1.0,
        image_size=64,
    )
    assert found == Preprocess(64, "crop", 64, (0.5,) * 3, (0.2,) * 3, found.labels)


def test_the_embedded_data_keeps_its_size_and_takes_the_statistics() -> None:
    found = open_data(DataSettings(starting=WEIGHTS)).preprocess
    assert (found.size, found.color, found.resize) == (28, "L", "none")
    assert (found.mean, found.std) == (WEIGHTS.mean, WEIGHTS.std)
    one = open_data(DataSettings(starting=WEIGHTS, channels=1)).preprocess
    assert one.mean == pytest.approx((0.2,))
    for options in ({"interpolation": "bicubic"}, {"crop_fraction": 0.9}):
        fields: dict[str, Any] = options
        with pytest.raises(UsageError, match=f"`{next(iter(options))}` cannot be combined"):
            open_data(DataSettings(**fields))


@pytest.mark.parametrize("fields", [{}, {"image_size": 96}, {"channels": 1}])
def test_data_is_opened_again_in_the_same_way(large: Path, fields: dict[str, Any]) -> None:
    first = open_data(DataSettings(str(large), starting=WEIGHTS, **fields))
    assert "starting" not in first.config
    again = reopen_data(first.config)
    assert again.preprocess == first.preprocess
    assert again.fingerprint == first.fingerprint
    plain = open_data(DataSettings(str(large), **fields))
    assert plain.fingerprint != first.fingerprint
    assert open_data(settings_for(first.preprocess, str(large))).preprocess == first.preprocess


def test_without_weights_nothing_changes(large: Path) -> None:
    data = open_data(DataSettings(str(large)))
    assert data.preprocess == Preprocess(
        224, "crop", 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), data.preprocess.labels
    )
    named = {"mean": None, "std": None, "interpolation": None, "crop_fraction": None}
    assert {name: data.config[name] for name in named} == named


def test_the_filter_changes_the_pixels(large: Path) -> None:
    first, second = (
        open_data(DataSettings(str(large), image_size=32, interpolation=kind)).test.fetch(torch.arange(2))
        for kind in ("bilinear", "bicubic")
    )
    assert (first.int() - second.int()).abs().max() > 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": "0.5"}, "`mean` has 1 value(s), but the input has 3 channel(s)"),
        ({"std": "0.5,0.5,0.5", "channels": 1}, "`std` has 3 value(s), but the input has 1 channel(s)"),
        ({"std": "0.5,0,0.5"}, "`std` has a value that is not positive"),
        ({"mean": "a,b,c"}, "`mean` a cannot be used"),
        ({"mean": "nan,0,0"}, "`mean`"),
        ({"crop_fraction": 0.0}, "`crop_fraction` 0.0 is out of range"),
        ({"crop_fraction": 1.5}, "`crop_fraction` 1.5 is out of range"),
    ],
)
def test_values_that_cannot_be_used(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        DataSettings(**fields)
    assert message in caught.value.what


def test_an_image_is_not_scaled_beyond_what_a_record_may_hold(large: Path) -> None:
    with pytest.raises(UsageError, match=r"`crop_fraction` 0\.05 scales images to more than 8192 pixels"):
        open_data(DataSettings(str(large), image_size=1024, crop_fraction=0.05))


def test_a_records_own_preparation() -> None:
    whole = Preprocess(28, "none", 28, (0.5,), (0.2,), ("a", "b"), "L")
    assert whole.preparation == Preparation(28, 1.0, (0.5,), (0.2,))
    assert replace(whole, resize="input").preparation is None
    assert replace(whole, resize="crop", resize_to=32).preparation == Preparation(28, 0.875, (0.5,), (0.2,))
