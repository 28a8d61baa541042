"""Every image of a folder is checked once at the start: damaged ones are named together."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imf_deploy.data import encoded, open_data
from imf_deploy.data.pictures import FilePictures, check, decode
from imf_deploy.errors import ImfDeployError
from imf_deploy.preprocess import Preprocess
from imf_deploy.progress import show_on
from imf_deploy.settings import DataSettings

PREPROCESS = Preprocess(8, "crop", 9, (0.5,) * 3, (0.5,) * 3, ("a", "b"))
MakeImages = Callable[..., Path]


def outcome(function: Callable[..., object], path: Path) -> str:
    try:
        function(FilePictures(path.parent, (path,)), 0, PREPROCESS)
    except ImfDeployError as error:
        return str(error)
    return "read"


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"]
)
def test_the_check_and_decoding_refuse_the_same_colours(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    Image.new(mode, (30, 20)).save(path)
    assert outcome(check, path) == outcome(decode, path)
    assert (outcome(check, path) == "read") == (mode not in ("I", "F"))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_the_check_and_decoding_refuse_the_same_damage(tmp_path: Path, form: str) -> None:
    random = np.random.default_rng(3)
    content = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (20, 30, 3), np.uint8)).save(content, form)
    path, outcomes = tmp_path / "a.png", []
    for _ in range(60):
        damaged = bytearray(content.getvalue())
        damaged[random.integers(len(damaged))] = random.integers(256)
        path.write_bytes(damaged[: random.integers(len(damaged) // 2, 2 * len(damaged))])
        outcomes.append(outcome(decode, path))
        assert outcome(check, path) == outcomes[-1]
    assert len(set(outcomes)) > 1


@pytest.mark.parametrize("limit", [100, 1 << 30], ids=["checked", "kept"])
@pytest.mark.parametrize("count", [1, 3, 120])
def test_damaged_images_are_all_named(
    tmp_path: Path,
    make_images: MakeImages,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    limit: int,
    count: int,
) -> None:
    folder = make_images(tmp_path / "d", {"train": 192, "val": 2}, classes=2)
    # The sizes of every sixth image are read first, and one of them would be named alone.
    pictures = [path for n, path in enumerate(sorted(folder.glob("train/*/*.png"))) if n % 6][:count]
    for path in pictures:
        path.write_bytes(path.read_bytes()[:-30])
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", limit)
    with pytest.raises(ImfDeployError) as caught:
        open_data(DataSettings(str(folder)))
    start = {1: "cannot read the image", 3: "cannot read 3 images:", 120: "cannot read 100 images or more:"}
    assert caught.value.what.startswith(f"{start[count]} {pictures[0]} (")
    assert all(str(path) in caught.value.what for path in pictures[:3])
    logged = [record.message for record in caplog.records if record.message.startswith("cannot read")]
    assert len(logged) == {1: 0, 3: 3, 120: 100}[count]
    assert all(str(path) in line for line, path in zip(logged, pictures, strict=False))


def test_every_image_is_read_once(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_images(tmp_path / "d", {"train": 200, "val": 5}, classes=2)
    read, reads = FilePictures.read, []

    def counted(self: FilePictures, position: int) -> bytes:
        reads.append(self.paths[position])
        return read(self, position)

    monkeypatch.setattr(FilePictures, "read", counted)
    open_data(DataSettings(str(folder)))
    # Their sizes are sampled before.
    assert len(set(reads)) == 410 and len(reads) < 410 + 70


class _Interrupting:
    """A display during which the user interrupts."""

    done = 0

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        yield self.advance

    def advance(self, amount: int) -> None:
        self.done += amount
        if self.done == 20:
            raise KeyboardInterrupt


def test_an_interruption_ends_the_check_at_once(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_images(tmp_path / "d", {"train": 300, "val": 2}, classes=2)
    before = sorted(tmp_path.rglob("*"))
    reads = []
    monkeypatch.setattr(encoded, "check", lambda _pictures, position, _: reads.append(position))
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", 100)
    show_on(_Interrupting())  # type: ignore[arg-type]
    try:
        with pytest.raises(KeyboardInterrupt):
            open_data(DataSettings(str(folder)))
    finally:
        show_on(None)
    assert len(reads) <= encoded._AHEAD
    assert sorted(tmp_path.rglob("*")) == before
