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
from imf_deploy.settings.starts import STUDENT, TEACHER

DOCS = Path(__file__).parent
STARTS = re.compile(r"(<!-- defaults by start -->\n)(.*?)(<!-- end of defaults -->)", re.DOTALL)
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


def defaults() -> str:
    """Return the defaults that depend on what a training starts from, as Markdown."""
    columns = {
        "teacher, fresh": settings.TeacherSettings(),
        "teacher from weights": settings.TeacherSettings(teacher_weights="given"),
        "student, fresh": settings.DistillSettings(),
        "student from weights": settings.DistillSettings(student_weights="given"),
    }
    names = dict.fromkeys([*TEACHER.defaults, *STUDENT.defaults])
    rows = [f"| option | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        values = (getattr(kind, name, "") for kind in columns.values())
        shown = ("on" if v is True else "off" if v is False else str(v) for v in values)
        rows.append(f"| `--{name.replace('_', '-')}` | {' | '.join(shown)} |")
    return "\n".join(rows) + "\n"


def written(page: str) -> str:
    """Return a page with its tables as the settings are now."""
    page = STARTS.sub(lambda m: f"{m[1]}{defaults()}{m[3]}", page)
    return TABLE.sub(lambda m: f"{m[1]}{table(getattr(settings, m[2]))}{m[4]}", page)


if __name__ == "__main__":
    for path in DOCS.glob("*.md"):
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
