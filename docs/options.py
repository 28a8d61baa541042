"""Write the tables of options in these pages from the settings, which declare each option once.

.venv-test/bin/python docs/options.py
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from imf_deploy import settings
from imf_deploy.settings.base import option_values

DOCS = Path(__file__).parent
TABLE = re.compile(r"(<!-- options of (\w+) -->\n)(.*?)(<!-- end of options -->)", re.DOTALL)


def table(kind: Any) -> str:
    """Return the options of a class of settings, with defaults and help texts, as Markdown."""
    values = option_values(kind())
    rows = ["| option | default | |", "|---|---|---|"]
    for field in dataclasses.fields(kind):
        name = field.name.replace("_", "-")
        if name in values or field.default is None:
            shown = values.get(name)
            switch = isinstance(shown, bool)
            default = ("on" if shown else "off") if switch else "" if shown is None else shown
            option = f"--{name}/--no-{name}" if switch else f"--{name}"
            rows.append(f"| `{option}` | {default} | {field.metadata['help'].replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"


def written(page: str) -> str:
    """Return a page with its tables as the settings are now."""
    return TABLE.sub(lambda m: f"{m[1]}{table(getattr(settings, m[2]))}{m[4]}", page)


if __name__ == "__main__":
    for path in DOCS.glob("*.md"):
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
