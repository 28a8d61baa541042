"""Texts that users see, kept as files in ``tests/golden/``: a change of them shows in a review.

``python tests/golden.py`` writes the help of all commands anew. ``IMF_DEPLOY_GOLDEN=write pytest ...`` writes
what the tests that it runs compare.
"""

import contextlib
import io
import os
import sys
from pathlib import Path

FOLDER = Path(__file__).with_name("golden")


def check(name: str, text: str) -> None:
    """Compare a text with its file."""
    path = FOLDER / name
    if os.environ.get("IMF_DEPLOY_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), (
        f"{path} differs. If the change is meant, python tests/golden.py writes the help of all commands, "
        "and IMF_DEPLOY_GOLDEN=write pytest the rest"
    )


def write_help() -> None:
    """Write the help of every command."""
    from imf_deploy.cli import main
    from imf_deploy.cli.app import COMMANDS

    os.environ.pop("COLUMNS", None)
    for name in COMMANDS:
        sys.argv[1:] = [name, "--help"]
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
            main()
        (FOLDER / "help" / f"{name}.txt").write_text(out.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    write_help()
