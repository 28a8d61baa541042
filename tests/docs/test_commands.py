"""Every command of the README and of docs/ is taken by the real command line; the quick ones are run."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.cli.app import app

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
NOT_RUN = {
    **dict.fromkeys(("distill-and-export", "train-teacher", "distill", "qat", "study"), "it trains"),
    **dict.fromkeys(
        (
            "strip",
            "export",
            "calibrate",
            "to-fp16",
            "package",
            "verify",
            "refit-engine",
            "predict",
            "evaluate",
            "compare-files",
        ),
        "it reads what a training has written",
    ),
    "plan": "it exports and measures for minutes",
    "check": "it installs runtimes",
    "bench": "it measures for minutes, some rows on a GPU",
}
"""Commands that are only parsed, and why."""
OTHERS = ("python ", "python3 -m venv", ".venv/bin/pip install", ".venv-test/bin/")
"""What else the pages type: Python itself, and the tools that install and test this package."""


def fenced(page: Path) -> list[str]:
    """Return the commands in fences of shell."""
    found = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [part.strip() for line in "".join(found).splitlines() for part in line.split("&&")]


def indented(page: Path) -> list[str]:
    """Return the indented lines of a page; a line that is continued is one."""
    text = re.sub(r" \\\n\s*", " ", page.read_text())
    return re.findall(r"^    (\S.*)", text, re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """Return the arguments of every ``imf-deploy`` of a page."""
    split = [
        shlex.split(line)
        for line in fenced(page) + indented(page)
        if re.match(r"(\.venv/bin/)?imf-deploy ", line)
    ]
    return [words[1:] for words in split]


COMMANDS = [(page.name, words) for page in PAGES for words in commands(page)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the option files that the pages name."""
    monkeypatch.chdir(tmp_path)
    (fence,) = re.findall(
        r"^```yaml\n(.*?)^```", (REPOSITORY / "docs/tutorial.md").read_text(), re.MULTILINE | re.DOTALL
    )
    for name in ("shapes.yaml", "shapes-run/config.yaml", "imf-deploy-out/config.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(fence)
    return tmp_path


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{p} {' '.join(w[:3])}" for p, w in COMMANDS])
@pytest.mark.usefixtures("here")
def test_the_command_line_takes_it(page: str, words: list[str]) -> None:
    command, bound, _ = app.parse_args(words)
    assert callable(command), page
    assert bound is not None
    assert words[0] in {*NOT_RUN, "doctor", "compare", "inspect"}


def test_the_check_is_one() -> None:
    assert len(COMMANDS) > 40
    with pytest.raises(Exception, match="--no-such"):
        app.parse_args(["distill", "--no-such"])


def test_fenced_lines_are_commands_of_this_package_or_known_ones() -> None:
    for line in (line for page in PAGES for line in fenced(page)):
        assert re.match(r"(\.venv/bin/)?imf-deploy ", line) or line.startswith(OTHERS), line


def test_quick_commands_run(finished_run: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    place = tmp_path / "cwd"
    for name in ("run-a", "run-b"):
        shutil.copytree(finished_run, place / name)
    quick = [(page, words) for page, words in COMMANDS if words[0] not in NOT_RUN]
    assert {words[0] for _, words in quick} == {"doctor", "compare"}
    for page, words in quick:
        result = cli(*words)
        # 3: no file is within the budget that the page names.
        assert result.code in (0, 3), (page, words, result.err)
    assert (place / "comparison.html").is_file()
