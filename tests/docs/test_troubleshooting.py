"""The messages on the page of problems are those that the code prints."""

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def texts() -> str:
    """Return every string of the code; a place for a value in it becomes ``…``."""
    found = []
    for folder in ("imf_deploy", "export", "calib"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = node.values
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    parts = [node]
                else:
                    continue
                found.append("".join(p.value if isinstance(p, ast.Constant) else "…" for p in parts))
    return "\n".join(found)


def test_messages_are_those_of_the_code() -> None:
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
    rows = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
    assert len(rows) > 15
    known = texts()
    for message in rows:
        parts = [part.strip(" ,") for part in message.split("…") if part.strip(" ,")]
        assert all(part in known for part in parts), message
