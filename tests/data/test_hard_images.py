"""Pictures of every awkward kind, saved and read back from a folder, down to the pixel."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from imf_deploy.data.image_file import SUFFIXES
from imf_deploy.data.pictures import FilePictures, decode
from imf_deploy.errors import ImfDeployError
from imf_deploy.preprocess import Preprocess

RGB = Preprocess(16, "crop", 16, (0.5,) * 3, (0.5,) * 3, ("a", "b"))
RED, GREEN, BLUE = (250, 10, 20), (10, 250, 20), (10, 20, 250)
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def read(path: Path) -> Pixels:
    """Return ``[3, 16, 16]``."""
    pixels: Pixels = decode(FilePictures(path.parent, (path,)), 0, RGB).numpy()
    return pixels


def plain(colour: tuple[int, int, int], mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (16, 16), colour).convert(mode)


def constant(pixels: Pixels, colour: tuple[int, ...], within: int = 0) -> bool:
    return bool((np.abs(pixels.astype(int) - np.array(colour)[:, None, None]) <= within).all())


def png(path: Path, depth: int, kind: int, row: bytes) -> Path:
    """Write a PNG of 16 equal rows of 16 pixels, of a bit depth that Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", 16, 16, depth, kind, 0, 0, 0)
    rows = zlib.compress((b"\0" + row) * 16)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.mark.parametrize("colour", [RED, GREEN, BLUE])
def test_cmyk(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    for name in ("a.jpg", "a.tif"):
        plain(colour, "CMYK").save(tmp_path / name)
        assert Image.open(tmp_path / name).mode == "CMYK"
        assert constant(read(tmp_path / name), colour, within=4)


def test_16_bit_grey_is_scaled_bright_or_dark(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for factor, expected in ((257, ramp), (64, ramp // 4), (1, ramp // 256)):
        for name in ("a.png", "a.tif"):
            Image.fromarray(ramp * factor).save(tmp_path / name)
            assert (read(tmp_path / name) == expected).all()


def test_16_bit_pgm(tmp_path: Path) -> None:
    wide = (np.arange(256, dtype=">u2") * 257).tobytes()
    (tmp_path / "a.pgm").write_bytes(b"P5 16 16 65535\n" + wide)
    assert (read(tmp_path / "a.pgm") == np.arange(256).reshape(16, 16)).all()


def test_16_bit_colour(tmp_path: Path) -> None:
    row = struct.pack(">HHH", 250 * 257, 10 * 257, 20 * 257) * 16
    assert constant(read(png(tmp_path / "a.png", 16, 2, row)), RED)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_are_refused(tmp_path: Path, mode: str) -> None:
    plain(RED, "L").convert(mode).save(tmp_path / "a.tif")
    with pytest.raises(ImfDeployError, match=r"a\.tif \(its pixels have 32 bits"):
        read(tmp_path / "a.tif")


def test_a_palette_with_transparency_keeps_its_colours(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([*BLUE, *RED, *GREEN])
    image.save(tmp_path / "a.png", transparency=bytes([255, 0, 128]))
    image.save(tmp_path / "b.png", transparency=1)
    for name in ("a.png", "b.png"):
        with Image.open(tmp_path / name) as saved:
            assert "transparency" in saved.info
        assert constant(read(tmp_path / name), RED)
    assert not [w for w in recwarn.list if "ransparency" in str(w.message)]


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_alpha_is_dropped(tmp_path: Path, alpha: int) -> None:
    image = plain(RED, "RGBA")
    image.putalpha(alpha)
    image.save(tmp_path / "a.png")
    assert constant(read(tmp_path / "a.png"), RED)
    grey = plain((90, 90, 90), "LA")
    grey.putalpha(alpha)
    grey.save(tmp_path / "b.png")
    assert constant(read(tmp_path / "b.png"), (90, 90, 90))


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.apng", "a.tif"])
def test_of_many_frames_the_first_is_taken(tmp_path: Path, name: str) -> None:
    more = {"lossless": True} if name.endswith("webp") else {}
    if name == "a.apng":
        more = {"format": "PNG"}
    frames = [plain(colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=50, **more)
    assert getattr(Image.open(tmp_path / name), "n_frames", 1) == 3
    assert constant(read(tmp_path / name), RED, within=3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations_of_a_jpeg(tmp_path: Path, orientation: int) -> None:
    upright = Image.new("RGB", (32, 32), BLUE)
    upright.paste(RED, (0, 0, 16, 16))
    upright.paste(GREEN, (16, 0, 32, 16))
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(turn[orientation]) if orientation in turn else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    pixels = read(tmp_path / "a.jpg")
    for (y, x), colour in {(3, 3): RED, (3, 12): GREEN, (12, 3): BLUE, (12, 12): BLUE}.items():
        assert np.abs(pixels[:, y, x].astype(int) - colour).max() < 12


def test_grey_among_colour_and_1_bit(tmp_path: Path) -> None:
    plain((77, 77, 77), "L").save(tmp_path / "grey.jpg")
    assert constant(read(tmp_path / "grey.jpg"), (77, 77, 77), within=1)
    checks = np.indices((16, 16)).sum(0) % 2 == 0
    Image.fromarray(checks).save(tmp_path / "bits.png")
    assert Image.open(tmp_path / "bits.png").mode == "1"
    assert (read(tmp_path / "bits.png") == checks * 255).all()
    assert constant(read(png(tmp_path / "two.png", 2, 0, b"\xaa" * 4)), (170, 170, 170))


def test_colour_where_grey_is_wanted() -> None:
    grey = Preprocess(16, "crop", 16, (0.5,) * 3, (0.5,) * 3, ("a",), "L")
    pixels = grey.load(plain((255, 0, 0)))
    assert pixels.shape == (1, 16, 16)
    assert (pixels == 76).all()  # ITU-R 601: 0.299 of white


Break = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda _: b"", "it is empty"),
        (lambda _: b"a text file\n" * 40, "not one of JPEG, PNG"),
        (lambda _: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not one of JPEG, PNG"),
        (lambda content: content[: len(content) // 2], ""),
    ],
)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.webp", "a.bmp", "a.tif"])
def test_what_is_no_whole_picture_is_named(tmp_path: Path, name: str, spoil: Break, said: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    path = tmp_path / name
    Image.fromarray(noise).save(path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ImfDeployError) as caught:
        read(path)
    assert f"cannot read the image {path} (" in str(caught.value)
    assert said in str(caught.value)
    assert caught.value.hint


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.webp", "a.bmp", "a.tif", "a.ppm"])
def test_damaged_bytes_never_raise_anything_else(tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(1)
    path = tmp_path / name
    plain(RED).save(path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(60):
        damaged = whole.copy()
        damaged[random.integers(0, min(len(whole), 120), 4)] = random.integers(0, 256, 4)
        path.write_bytes(damaged[: random.integers(1, len(whole) + 1)].tobytes())
        try:
            assert read(path).shape == (3, 16, 16)
        except ImfDeployError as error:
            assert str(path) in str(error)


def test_a_decompression_bomb(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(content, "PNG")  # 200 million pixels in 25 kB
    assert len(content.getvalue()) < 50_000
    (tmp_path / "bomb.png").write_bytes(content.getvalue())
    with pytest.raises(ImfDeployError, match=r"bomb\.png \(.*exceeds limit"):
        read(tmp_path / "bomb.png")
    text = PngImagePlugin.PngInfo()
    text.add_text("x", "0" * 2_000_000, zip=True)
    plain(RED).save(tmp_path / "text.png", pnginfo=text)
    with pytest.raises(ImfDeployError, match=r"text\.png"):
        read(tmp_path / "text.png")


def test_every_name_has_a_reader() -> None:
    endings = Image.registered_extensions()
    known = {suffix for suffix in SUFFIXES if suffix in endings}
    assert known == SUFFIXES
    from imf_deploy.data.image_file import FORMATS

    assert {endings[suffix] for suffix in SUFFIXES} == set(FORMATS)
