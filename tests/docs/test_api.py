"""The API reference has a page for every module, and its generator has nothing to complain of."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import preloaded
import pytest

import imf_deploy

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("reference") / "api"
    done = preloaded.run([str(REPOSITORY / "docs/api.py"), "api"], cwd=folder.parent, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()
    yield folder


class Words(HTMLParser):
    """Return the visible text of a page, except the source code."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.text, self._source = "", False
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "div" and "pdoc-code" in (dict(attrs).get("class") or ""):
            self._source = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "div":
            self._source = False

    def handle_data(self, data: str) -> None:
        if not self._source:
            self.text += data


def test_every_module_has_a_page(pages: Path) -> None:
    wanted = {Path(path) for path in ("imf_deploy.html", "index.html")}
    package = Path(imf_deploy.__file__).parent
    folders = {"imf_deploy": package, "imf_deploy/export": REPOSITORY / "export"}
    folders["imf_deploy/calib"] = REPOSITORY / "calib"
    for place, folder in folders.items():
        for file in folder.rglob("*.py"):
            inside = Path(place) / file.relative_to(folder)
            module = inside.parent if file.stem == "__init__" else inside.with_suffix("")
            wanted.add(module.parent / f"{module.name}.html")
    wanted.remove(Path("imf_deploy/__main__.html"))
    assert {page.relative_to(pages) for page in pages.rglob("*.html")} == wanted


def test_the_mathematics_can_be_read(pages: Path) -> None:
    task = Words(pages / "imf_deploy/tasks/classification.html").text
    assert "Return KL(teacher || student) of softened probabilities, in nats per image." in task
    losses = Words(pages / "imf_deploy/method/losses.html").text
    assert "CE(own) + beta * [KL(own) + mean KL(z_i) + mean KL(z^(k))] + alpha * mean w_i D_i" in losses
    branches = Words(pages / "imf_deploy/method/branches.html").text
    assert "z^(k)_c = sum over i <= k of softmax_i(a[:k, c])_i * z_i,c" in branches


def test_names_are_links_and_no_markup_is_left(pages: Path) -> None:
    assert 'href="../training/loop.html#fit"' in (pages / "imf_deploy/distillation/imf_task.html").read_text()
    for page in pages.rglob("*.html"):
        text = Words(page).text
        assert ":func:" not in text, page
        assert ":class:" not in text, page
        assert "``" not in text, page


def test_the_first_page_has_the_verbs(pages: Path) -> None:
    first = (pages / "imf_deploy.html").read_text()
    for name in imf_deploy.__all__:
        assert f'id="{name}"' in first, name
    assert "Distil a teacher into a student by IMF" in Words(pages / "imf_deploy.html").text
