"""The page in a real browser: it renders, fits a phone, follows dark mode, and fetches nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from imf_deploy.report import Report, write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--v=0",
]
pytestmark = pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")

FRAME = """<!doctype html><iframe src="report.html" width="{width}" height="800" onload="
  const page = this.contentDocument.documentElement;
  const shown = [...page.querySelectorAll('svg')].map(s => Math.round(s.getBoundingClientRect().width));
  document.title = JSON.stringify({{fits: page.scrollWidth <= page.clientWidth, pictures: shown.length,
    inside: shown.every(w => w > 250 && w <= page.clientWidth)}});
"></iframe>"""


@pytest.fixture
def page(report: Report, tmp_path: Path) -> Path:
    report["notes"].append("<script>document.title = 'broken into'</script>")
    write_report(report, tmp_path)
    return tmp_path / "report.html"


def browse(page: Path, *options: str) -> str:
    """Open a page, fail on anything it logs, and return what the browser prints."""
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={page.parent / 'profile'}", *options, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    return done.stdout


def screenshot(page: Path, width: int, height: int, *options: str) -> npt.NDArray[np.uint8]:
    file = page.with_suffix(".png")
    browse(page, f"--window-size={width},{height}", f"--screenshot={file}", *options)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def test_what_is_shown(page: Path) -> None:
    shown = browse(page, "--dump-dom")
    assert "<title>mobilenetv2 from cifar_resnet20x4: deployment report</title>" in shown
    for words in (
        "Deploy deploy/mobilenetv2-imf@3-fp32.onnx: the fastest file within 0.5 points of the best.",
        "89.8 % (88.5–91.2)",
        "not run: no CUDA device",
        "identical, bit for bit",
        "branches.0.steps.0.depthwise",
        "median latency of one inference (ms)",
        "imf-deploy distill-and-export --student mobilenetv2",
    ):
        assert words in shown
    assert shown.count("<svg") == shown.count("</svg>") == 5
    assert "http:" not in shown
    assert "https:" not in shown


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_fits_its_window(page: Path, width: int) -> None:
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(width=width))
    # The frame may look into the page only with this flag: file:// pages are strangers to each other.
    shown = browse(frame, "--allow-file-access-from-files", "--dump-dom")
    assert '<title>{"fits":true,"pictures":5,"inside":true}</title>' in shown


def test_a_phone_shows_something(page: Path) -> None:
    pixels = screenshot(page, 390, 844)
    assert pixels.shape == (844, 390, 3)
    assert pixels.mean() > 200, "not a light page"
    busy_rows = (pixels.std(axis=(1, 2)) > 5).mean()
    assert busy_rows > 0.4


def test_dark_mode_has_light_text_and_pictures(page: Path) -> None:
    pixels = screenshot(page, 1200, 3000, "--blink-settings=preferredColorScheme=0")
    assert pixels.mean() < 60, "not a dark page"
    assert (pixels.min(axis=2) > 200).mean() > 0.005, "no light text"
