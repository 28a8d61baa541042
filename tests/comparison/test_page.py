from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.comparison.page import render_page
from imf_deploy.comparison.stage import compare
from imf_deploy.settings.compare import Budget

MakeRun = Callable[..., Path]
Browse = Callable[..., str]
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
FRAME = """<!doctype html><iframe src="page.html" width="{width}" height="800" onload="
  const page = this.contentDocument.documentElement;
  const shown = [...page.querySelectorAll('svg')].map(s => Math.round(s.getBoundingClientRect().width));
  document.title = JSON.stringify({{fits: page.scrollWidth <= page.clientWidth, pictures: shown.length,
    inside: shown.every(w => w > 250 && w <= page.clientWidth)}});
"></iframe>"""


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_sentence_comes_first_and_the_page_needs_nothing_else(make_run: MakeRun) -> None:
    page = render_page(compare([make_run("one"), make_run("two")], Budget(size_budget_mb=1)))
    body = page[page.index("<body") :]
    assert body.index("Deploy one/deploy/net-imf@1-fp32.onnx: ") < body.index("timed one after the other")
    assert not re.search(r"https?:|//[a-z]|@import|@font-face", page)
    for tag, attributes in Tags(page).found:
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base")
        assert (attributes.get("href") or "#").startswith("#")
    assert page.count("<svg") == 2
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_hostile_names_are_escaped(make_run: MakeRun, one_row: Callable[..., dict[str, Any]]) -> None:
    rows = [one_row("plain-fp32", path=HOSTILE, product=HOSTILE, precision=HOSTILE), one_row("imf@1-fp32")]
    environment = {HOSTILE: HOSTILE}
    run = make_run(rows=rows, dataset=HOSTILE, student=HOSTILE, command=HOSTILE, environment=environment)
    page = render_page(compare([run]))
    assert HOSTILE not in page
    assert not {"script", "img"} & {tag for tag, _ in Tags(page).found}


@pytest.mark.filterwarnings("error")
def test_any_folder_name_is_in_the_legend(make_run: MakeRun) -> None:
    names = ["_old", "実験", *(f"run{number}" for number in range(9))]
    page = render_page(compare([make_run(name) for name in names]))
    picture = page[page.index("<svg") : page.index("</svg>")]
    for name in names:
        assert f">{name}</text>" in picture


def test_runs_without_any_number(make_run: MakeRun) -> None:
    assert "These runs contain no file with a measured accuracy." in render_page(compare([make_run(rows=[])]))


@pytest.mark.parametrize("width", [390, 1200])
def test_it_fits_its_window(browse: Browse, make_run: MakeRun, tmp_path: Path, width: int) -> None:
    (tmp_path / "page.html").write_text(render_page(compare([make_run("one"), make_run("two")])))
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width))
    shown = browse(frame, "--allow-file-access-from-files", "--dump-dom")
    assert '<title>{"fits":true,"pictures":2,"inside":true}</title>' in shown


def test_what_a_browser_shows(browse: Browse, make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(render_page(compare([make_run("one"), make_run("two")])))
    shown = browse(tmp_path / "page.html", "--dump-dom")
    for words in (
        "<title>Comparison of one, two</title>",
        "88.0 % (88.0–92.0)",
        "size of the file (MB)",
        "latency, size",
        "recommended",
        "imf@2 fp32",
    ):
        assert words in shown
