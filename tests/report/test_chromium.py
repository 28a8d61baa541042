"""The page in a real browser: it renders, fits a phone, follows dark mode, and fetches nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from imf_deploy.records.report import Report
from imf_deploy.report.html import write_report

Browse = Callable[..., str]

FRAME = """<!doctype html><iframe src="report.html" width="{width}" height="800" onload="
  const page = this.contentDocument.documentElement;
  const shown = [...page.querySelectorAll('svg')].map(s => Math.round(s.getBoundingClientRect().width));
  document.title = JSON.stringify({{fits: page.scrollWidth <= page.clientWidth, pictures: shown.length,
    inside: shown.every(w => w > 250 && w <= page.clientWidth),
    answered: page.querySelector('#unchecked').getBoundingClientRect().top < 800}});
"></iframe>"""


@pytest.fixture
def page(report: dict[str, Any], tmp_path: Path) -> Path:
    report["notes"].append("<script>document.title = 'broken into'</script>")
    write_report(Report.of(report), tmp_path)
    return tmp_path / "report.html"


def screenshot(browse: Browse, page: Path, width: int, height: int, *options: str) -> npt.NDArray[np.uint8]:
    file = page.with_suffix(".png")
    browse(page, f"--window-size={width},{height}", f"--screenshot={file}", *options)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def test_what_is_shown(browse: Browse, page: Path) -> None:
    shown = browse(page, "--dump-dom")
    assert "<title>mobilenetv2 from cifar_resnet20x4: deployment report</title>" in shown
    for words in (
        "Deploy deploy/mobilenetv2-imf@3-fp32.onnx</p>",
        "The fastest file within 0.5 points of the best.",
        "89.8 % (88.5–91.2)",
        "not run: no CUDA device",
        "identical, bit for bit",
        "branches.0.steps.0.depthwise",
        "median latency of one inference (ms)",
        "imf-deploy distill-and-export --student mobilenetv2",
    ):
        assert words in shown
    assert shown.count("<svg") == shown.count("</svg>") == 8
    assert "http:" not in shown
    assert "https:" not in shown


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_fits_its_window_and_begins_with_the_answers(browse: Browse, page: Path, width: int) -> None:
    """What was not checked is the last of them."""
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(width=width))
    # The frame may look into the page only with this flag: file:// pages are strangers to each other.
    shown = browse(frame, "--allow-file-access-from-files", "--dump-dom")
    assert '<title>{"fits":true,"pictures":8,"inside":true,"answered":true}</title>' in shown


def test_a_phone_shows_something(browse: Browse, page: Path) -> None:
    pixels = screenshot(browse, page, 390, 844)
    assert pixels.shape == (844, 390, 3)
    assert pixels.mean() > 200, "not a light page"
    busy_rows = (pixels.std(axis=(1, 2)) > 5).mean()
    assert busy_rows > 0.4


def test_dark_mode_has_light_text_and_pictures(browse: Browse, page: Path) -> None:
    pixels = screenshot(browse, page, 1200, 3000, "--blink-settings=preferredColorScheme=0")
    assert pixels.mean() < 60, "not a dark page"
    assert (pixels.min(axis=2) > 200).mean() > 0.005, "no light text"


def test_a_print_shows_what_is_folded_away(browse: Browse, page: Path) -> None:
    """Paper cannot be scrolled or opened: tables are whole, and details are open."""
    script = """<!doctype html><iframe src="report.html" width="700" height="800" onload="
      const page = this.contentDocument, sheet = [...page.styleSheets[0].cssRules];
      const print = sheet.find(rule => rule.conditionText === 'print');
      page.querySelector('style').textContent += [...print.cssRules].map(r => r.cssText).join(' ');
      const box = page.querySelector('#files').parentElement;
      const detail = page.querySelector('details:not([open])');
      document.title = JSON.stringify({whole: box.scrollWidth <= box.clientWidth,
        open: detail.getBoundingClientRect().height > 100});
    "></iframe>"""
    frame = page.with_name("frame.html")
    frame.write_text(script)
    shown = browse(frame, "--allow-file-access-from-files", "--dump-dom")
    assert '<title>{"whole":true,"open":true}</title>' in shown


def test_a_page_that_fetches_something_would_be_noticed(browse: Browse, page: Path) -> None:
    spoilt = page.with_name("spoilt.html")
    spoilt.write_text(page.read_text().replace("</main>", '<img src="https://example.invalid/x.png"></main>'))
    with pytest.raises(AssertionError, match="Loading the image"):
        browse(spoilt, "--dump-dom")
