"""Any picture becomes the same kind of input."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from imf_deploy.errors import ImfDeployError
from imf_deploy.preprocess import Preprocess

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
RGB = Preprocess(16, "crop", 16, MEAN, STD, ("a", "b"))
GREY = Preprocess(16, "none", 16, MEAN, STD, ("a", "b"), "L")


def saved(path: Path, image: Image.Image, **options: Any) -> Image.Image:
    image.save(path, **options)
    return Image.open(path)


def ramp(mode: str = "L") -> Image.Image:
    return Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK"])
def test_every_mode_becomes_three_channels(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    pixels = RGB.load(saved(tmp_path / f"a.{suffix}", ramp(mode)))
    assert pixels.shape == (3, 16, 16)
    assert pixels.dtype == np.uint8
    if mode in ("L", "RGB", "RGBA", "LA"):
        assert np.array_equal(pixels, np.broadcast_to(np.asarray(ramp()), (3, 16, 16)))
    else:
        assert pixels[:, -1, -1].min() > pixels[:, 0, 0].max()  # still dark to light


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert RGB.load(saved(tmp_path / "a.png", image))[:, 3, 3].tolist() == [10, 20, 30]


def test_16_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    wide = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    pixels = RGB.load(saved(tmp_path / "a.png", Image.fromarray(wide)))
    assert np.array_equal(pixels[0], np.arange(256).reshape(16, 16))


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    rotated = RGB.load(saved(tmp_path / "a.png", ramp(), exif=exif))
    assert np.array_equal(rotated[0], np.rot90(np.asarray(ramp()), -1))


def test_the_shorter_side_is_scaled_and_the_centre_kept() -> None:
    image = Image.new("RGB", (96, 32), (255, 0, 0))
    image.paste((0, 255, 0), (32, 0, 64, 32))
    pixels = RGB.load(image)
    assert pixels[:, 8, 8].tolist() == [0, 255, 0]
    assert pixels.shape == (3, 16, 16)
    assert pixels[1].min() > 100  # the sides are cut off


def test_a_very_flat_picture(tmp_path: Path) -> None:
    assert RGB.load(Image.new("RGB", (500, 1))).shape == (3, 16, 16)


def test_without_resize_another_size_is_refused() -> None:
    with pytest.raises(ImfDeployError, match="17x16 pixels, not 16x16"):
        GREY.load(Image.new("L", (17, 16)))


def test_grey_stays_one_channel_and_is_repeated_as_input() -> None:
    pixels = GREY.load(ramp())
    assert pixels.shape == (1, 16, 16)
    normal = GREY.normalize(torch.from_numpy(pixels.copy())[None])
    assert normal.shape == (1, 3, 16, 16)
    for channel in range(3):
        expected = (pixels[0] / 255 - MEAN[channel]) / STD[channel]
        assert np.allclose(normal[0, channel].numpy(), expected, atol=1e-5)


def test_input_is_channels_last() -> None:
    normal = RGB.normalize(torch.zeros(4, 3, 16, 16, dtype=torch.uint8))
    assert normal.is_contiguous(memory_format=torch.channels_last)


def test_json_and_back() -> None:
    assert Preprocess.from_dict(json.loads(json.dumps(asdict(RGB)))) == RGB


@pytest.mark.parametrize(
    "change",
    [{"std": [0, 1, 1]}, {"mean": [1, 2]}, {"resize": "stretch"}, {"color": "BGR"}, {"size": "big"}],
)
def test_a_damaged_record(change: dict[str, Any]) -> None:
    with pytest.raises(ImfDeployError, match="preprocessing record is damaged"):
        Preprocess.from_dict(asdict(RGB) | change)


def test_a_record_without_a_field() -> None:
    content = asdict(RGB)
    del content["labels"]
    with pytest.raises(ImfDeployError, match="labels"):
        Preprocess.from_dict(content)


WIDE = Preprocess((12, 20), "crop", 12, MEAN, STD, ("a", "b"))


@pytest.mark.parametrize(
    ("width", "height"), [(20, 12), (40, 24), (12, 20), (100, 12), (12, 100), (4, 5), (2000, 12), (12, 2000)]
)
def test_any_picture_covers_a_wide_input(width: int, height: int) -> None:
    image = Image.new("RGB", (width, height), (250, 250, 250))
    image.paste((0, 0, 0), (width // 2, 0, width, height))
    pixels = WIDE.load(image)
    assert pixels.shape == (3, 12, 20)
    assert pixels[:, :, :6].min() > 150  # nothing is padded
    assert pixels[:, :, -6:].max() < 100


def test_a_picture_in_the_proportions_of_the_input_is_only_scaled() -> None:
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(0, 256, (24, 40, 3), dtype=np.uint8))
    whole = np.asarray(image.resize((20, 12), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.array_equal(WIDE.load(image), whole)
    margin = replace(WIDE, resize_to=18).load(image)
    larger = np.asarray(image.resize((30, 18), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.array_equal(margin, larger[:, 3:15, 5:25])


def test_height_comes_first() -> None:
    tall = replace(WIDE, size=(20, 12), resize="none")
    assert tall.load(Image.new("RGB", (12, 20))).shape == (3, 20, 12)
    with pytest.raises(ImfDeployError, match="an image is 20x12 pixels, not 12x20"):
        tall.load(Image.new("RGB", (20, 12)))


def test_one_channel() -> None:
    one = replace(GREY, mean=(0.5,), std=(0.25,))
    assert (one.channels, one.shape, one.picture_bytes) == (1, (1, 16, 16), 256)
    for mode in ("L", "RGB"):
        pixels = one.load(ramp(mode))
        assert pixels.shape == (1, 16, 16)
        assert np.array_equal(pixels[0], np.asarray(ramp()))
    normal = one.normalize(torch.tensor(one.load(ramp()))[None])
    assert normal.shape == (1, 1, 16, 16)
    expected = (np.asarray(ramp()) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(normal[0, 0].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert Preprocess.from_dict(json.loads(json.dumps(asdict(one)))) == one


@pytest.mark.parametrize(
    ("mean", "std", "color"),
    [((0.5,), STD, "L"), (MEAN, (0.5,), "RGB"), ((0.5,) * 2, (0.5,) * 2, "L"), ((0.5,), (0.5,), "RGB")],
)
def test_channels_that_contradict_each_other(mean: Any, std: Any, color: Any) -> None:
    with pytest.raises(ValueError, match=r"values|one channel needs the color L"):
        Preprocess(16, "none", 16, mean, std, ("a", "b"), color)
    record = asdict(GREY) | {"mean": mean, "std": std, "color": color}
    with pytest.raises(ImfDeployError, match="the preprocessing record is damaged"):
        Preprocess.from_dict(json.loads(json.dumps(record)))
