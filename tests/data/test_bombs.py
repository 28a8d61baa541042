"""Small files that hold huge pictures: bounded memory, or a refusal by name."""

import io
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import preloaded
import pytest
import torch
from PIL import Image

from imf_deploy import upright
from imf_deploy.data import encoded, open_data
from imf_deploy.data.crops import RandomCrop
from imf_deploy.data.image_file import LONGEST_RATIO, MOST_PIXELS
from imf_deploy.data.pictures import FilePictures, decode
from imf_deploy.errors import ImfDeployError
from imf_deploy.preprocess import Interpolation, Preprocess
from imf_deploy.settings import DataSettings

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
PREPROCESS = Preprocess(224, "crop", 256, (0.5,) * 3, (0.5,) * 3, ("a", "b"))
MakeImages = Callable[..., Path]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]

# What decoding one picture adds to the memory of a process, in MiB.
MEASURE = """
import resource, sys
from pathlib import Path
from imf_deploy.data.pictures import FilePictures, decode
from imf_deploy.preprocess import Interpolation, Preprocess

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

prepare = Preprocess(224, "crop", 256, (0.5,) * 3, (0.5,) * 3, ("a", "b"))
folder = Path(sys.argv[1])
decode(FilePictures(folder, (folder / "small.png",)), 0, prepare)
before = peak()
for path in sorted(folder.glob("bomb*")):
    decode(FilePictures(folder, (path,)), 0, prepare)
print(peak() - before)
"""


def added_memory(folder: Path) -> int:
    Image.new("RGB", (300, 300)).save(folder / "small.png")
    done = preloaded.run(["-c", MEASURE, str(folder)], cwd=folder)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted as Linux does")
def test_long_and_narrow_pictures_take_little_memory(tmp_path: Path) -> None:
    for number, size in enumerate([(1, 1000), (65, 65_000), (60_000, 60), (100, 100_000), (9, 7_000)]):
        Image.new("RGB", size).save(tmp_path / f"bomb{number}.png")
    Image.new("RGB", (70, 65_000)).save(tmp_path / "bomb.jpg")
    Image.new("P", (65_000, 65)).save(tmp_path / "bomb.gif")
    assert added_memory(tmp_path) < 150


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted as Linux does")
def test_a_large_palette_is_converted_piece_by_piece(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("P", (6000, 6000)).save(tmp_path / "bomb1.png", transparency=bytes(8), exif=exif)
    Image.new("P", (6000, 6000)).save(tmp_path / "bomb2.gif")
    # 34 MiB as they are stored; a converted copy has 137.
    assert added_memory(tmp_path) < 130


def header_of(width: int, height: int) -> bytes:
    """Return a PNG of which only the header is true: whoever decodes it finds that nothing is there."""
    content = io.BytesIO()
    Image.new("L", (1, 1)).save(content, "PNG")
    whole = bytearray(content.getvalue())
    whole[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    return bytes(whole)


@pytest.mark.parametrize(
    "size",
    [
        (MOST_PIXELS + 1, 1),
        (9460, 9460),
        (13_300, 13_300),
        (100_000, 100_000),
        (1, 60_000),
        (65_000, 2),
        (3, 3 * LONGEST_RATIO + 1),
    ],
)
def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "bomb.png").write_bytes(header_of(*size))
    with pytest.raises(ImfDeployError, match=r"bomb\.png \(") as caught:
        decode(FilePictures(tmp_path, (tmp_path / "bomb.png",)), 0, PREPROCESS)
    assert "pixels" in caught.value.what


def test_readers_that_copy_have_lower_limits(tmp_path: Path) -> None:
    image = Image.new("L", (6700, 6700))
    image.save(tmp_path / "plain.jpg")
    image.save(tmp_path / "progressive.jpg", progressive=True)
    for name, refused in (("plain.jpg", False), ("progressive.jpg", True)):
        pictures = FilePictures(tmp_path, (tmp_path / name,))
        if refused:
            with pytest.raises(ImfDeployError, match="6700x6700 pixels; the maximum for JPEG is 44,739,242"):
                decode(pictures, 0, PREPROCESS)
        else:
            assert decode(pictures, 0, PREPROCESS).shape == (3, 224, 224)


@pytest.mark.parametrize("kept", [True, False])
def test_in_shards(
    image_folder: Path,
    tmp_path: Path,
    make_shard: Callable[..., Path],
    make_samples: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    kept: bool,
) -> None:
    if not kept:
        monkeypatch.setattr(encoded, "MEMORY_LIMIT", 100)
    members = make_samples(image_folder / "train")
    members[-2] = (members[-2][0], header_of(13_300, 13_300))
    shard = make_shard(tmp_path / "train-0.tar", members)
    with pytest.raises(ImfDeployError) as caught:
        data = open_data(DataSettings(str(shard), val_fraction=0.0))
        for split in (data.train, data.test):
            split.fetch(torch.arange(len(split)))
    assert f"{shard}, member {members[-2][0]} (it has 13300x13300 pixels" in caught.value.what


def gradient(width: int, height: int) -> Image.Image:
    """Return a picture whose colour says where one is."""
    across = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    down = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([across, down, 255 - down], -1).round().astype(np.uint8))


@pytest.mark.parametrize("size", [(3, 100), (100, 3), (20, 999), (5, 41), (1, 60_000)])
def test_of_a_long_picture_the_middle_is_taken(size: tuple[int, int]) -> None:
    whole = gradient(*size)
    pixels = PREPROCESS.load(whole).astype(int)
    # Where the centre crop is, without scaling the whole: the sides are 224/256 of the shorter one.
    side = min(size) * 224 / 256
    box = [(s - side) / 2 for s in size] + [(s + side) / 2 for s in size]
    expected = np.asarray(
        whole.resize((224, 224), Image.Resampling.BILINEAR, (box[0], box[1], box[2], box[3]))
    )
    assert np.abs(pixels - expected.transpose(2, 0, 1).astype(int)).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "1", "I;16"])
@pytest.mark.parametrize("crop", [None, RandomCrop(3), RandomCrop(8)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pieces_give_what_the_whole_gives(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    orientation: int,
    mode: str,
    crop: RandomCrop | None,
    interpolation: Interpolation,
) -> None:
    random = np.random.default_rng(orientation)
    noise = random.integers(0, 256, (101, 163, 3), np.uint8)
    image = Image.fromarray(noise)
    if mode == "I;16":
        image = Image.fromarray(random.integers(0, 65536, (101, 163)).astype(np.uint16))
    elif mode == "P":
        image = image.quantize(100)
    elif mode != "RGB":
        image = image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    pictures = FilePictures(tmp_path, (tmp_path / "a.png",))
    prepare = Preprocess(32, "crop", 36, (0.5,) * 3, (0.5,) * 3, ("a", "b"), "RGB", interpolation)
    whole = decode(pictures, 0, prepare, crop).numpy().astype(int)
    monkeypatch.setattr(upright, "WHOLE", 0)
    monkeypatch.setattr(upright, "PIECE", 1500)
    pieces = decode(pictures, 0, prepare, crop).numpy().astype(int)
    assert np.abs(whole - pieces).max() <= 1
    assert whole.std() > 5
