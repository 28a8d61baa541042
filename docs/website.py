"""Build the site of the documentation from docs/ and from the code, and check its links.

.venv-test/bin/pip install -c constraints.txt '.[docs]'
.venv-test/bin/python docs/website.py site
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from imf_deploy.cli.app import app
from imf_deploy.records.schema import json_schema

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PAGES = ROOT / "build" / "site-pages"
PROJECT = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
GENERATED = {
    "records.md": """# Records and reports

[records.schema.json](records.schema.json) is the JSON Schema of `report.json` and of the `.json` beside every
file. [verification.md](verification.md) shows how to read them in Python.
""",
    "python-reference.md": """# Python reference

The [reference of all modules](api/index.html) is generated from the docstrings. [python.md](python.md)
introduces the functions.
""",
}
LINK = re.compile(r"(\]\()(?:docs/)?([^)#:\s]+)")


def write_pages() -> None:
    """Write every page of the site into :data:`PAGES`."""
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir(parents=True)
    for page in (*DOCS.glob("*.md"), DOCS / "classify.py"):
        shutil.copy(page, PAGES)
    shutil.copytree(DOCS / "pictures", PAGES / "pictures")
    for name in ("README.md", *PROJECT):
        text = LINK.sub(r"\1\2", (ROOT / name).read_text(encoding="utf-8"))
        (PAGES / name.replace("README", "index")).write_text(text, encoding="utf-8")
    (PAGES / "commands.md").write_text(commands(), encoding="utf-8")
    (PAGES / "records.schema.json").write_text(json.dumps(json_schema(), indent=2), encoding="utf-8")
    for name, text in GENERATED.items():
        (PAGES / name).write_text(text, encoding="utf-8")
    subprocess.run([sys.executable, str(DOCS / "api.py"), str(PAGES / "api")], check=True)


def commands() -> str:
    """Return the reference of the command line, as Markdown."""
    text: str = app.generate_docs(output_format="markdown", recursive=True)
    return text


def missing_pages() -> set[str]:
    """Return the pages of docs/ that the navigation does not name."""
    named = re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    return {page.name for page in DOCS.glob("*.md")} - set(named)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to write the site; index.html is the first page")
    folder = parser.parse_args().folder.resolve()
    if missing := missing_pages():
        sys.exit(f"mkdocs.yml does not name {', '.join(sorted(missing))}")
    write_pages()
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(ROOT / "mkdocs.yml")]
    sys.exit(subprocess.run([*command, "--site-dir", str(folder)], check=False).returncode)
