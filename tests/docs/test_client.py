"""The client to copy, ``docs/classify.py``, prepares any photo as ``Preprocess`` does, or refuses it."""

import io
import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imf_deploy.errors import ImfDeployError
from imf_deploy.preprocess import Preprocess

DOCS = Path(__file__).parents[2] / "docs"
CLIENT: dict[str, Any] = {"__name__": "classify"}
exec((DOCS / "classify.py").read_text(), CLIENT)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
KINDS = (
    "1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "transparent palette", "transparent colour", "animation",
    "16-bit PNG", "16-bit PGM", "16-bit TIFF", "32-bit TIFF",
)  # fmt: skip


def encoded(kind: str, width: int, height: int, orientation: int) -> io.BytesIO:
    """Return a file of noise, stored as cameras and programs store images."""
    random = np.random.default_rng(0)
    colour = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
    deep = Image.fromarray(random.integers(0, 1 << 16, (height, width), np.uint16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    if kind.startswith("16-bit"):
        form = {"PNG": "PNG", "PGM": "PPM", "TIFF": "TIFF"}[kind.rpartition(" ")[2]]
        deep.save(file, form, **({} if form == "PPM" else {"exif": exif}))
    elif kind == "32-bit TIFF":
        Image.fromarray(random.random((height, width), np.float32)).save(file, "TIFF", exif=exif)
    elif kind == "transparent palette":
        colour.quantize(16).save(file, "PNG", transparency=3, exif=exif)
    elif kind == "transparent colour":
        colour.save(file, "PNG", transparency=(1, 2, 3), exif=exif)
    elif kind == "animation":
        colour.quantize(8).save(file, "GIF", save_all=True, append_images=[colour.quantize(4)])
    elif kind == "CMYK":
        colour.convert("CMYK").save(file, "JPEG", exif=exif)
    else:
        colour.convert(kind).save(file, "PNG", exif=exif)
    return file


def opened(file: io.BytesIO) -> Image.Image:
    file.seek(0)
    return Image.open(file)


sides = st.one_of(st.integers(1, 40), st.just(16), st.integers(200, 500))
sizes = st.sampled_from((16, (12, 20), (20, 12)))
images = st.tuples(st.sampled_from(KINDS), sides, sides, st.integers(1, 8))
channels = st.sampled_from([("RGB", 3), ("L", 3), ("L", 1)])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(image=images, size=sizes, margin=st.sampled_from((0, 5)), form=channels, resize=st.booleans())
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_the_client_prepares_images_as_the_training_does(
    image: tuple[str, int, int, int],
    size: Any,
    margin: int,
    form: tuple[Literal["RGB", "L"], int],
    resize: bool,
) -> None:
    color, count = form
    interpolation: Literal["bilinear", "bicubic"] = "bicubic" if margin else "bilinear"
    shorter = min(size) if isinstance(size, tuple) else size
    how: Literal["crop", "none"] = "crop" if resize else "none"
    about = Preprocess(
        size, how, shorter + margin, MEAN[:count], STD[:count], ("a", "b"), color, interpolation
    )
    file = encoded(*image)
    try:
        wanted = about.normalize_array(about.load(opened(file))[None])
    except ImfDeployError as error:
        with pytest.raises(SystemExit, match=r"32-bit pixels|pixels, not"):
            CLIENT["prepare"](opened(file), json.loads(about.metadata()["preprocess"]))
        assert re.search("32 bits|pixels, not", error.what)
        return
    found = CLIENT["prepare"](opened(file), json.loads(about.metadata()["preprocess"]))
    assert (found.shape, found.dtype) == ((1, *about.shape), np.float32)
    np.testing.assert_allclose(found, np.broadcast_to(wanted, found.shape), rtol=0, atol=1e-5)


@pytest.mark.parametrize("page", ["tutorial.md"])
def test_pages_show_the_client_as_it_is(page: str) -> None:
    assert f"```python\n{(DOCS / 'classify.py').read_text()}```\n" in (DOCS / page).read_text()
