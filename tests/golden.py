"""Texts that users see, kept as files in ``tests/golden/``: a change of them shows in a review.

``IMF_DEPLOY_GOLDEN=write pytest ...`` writes the files anew.
"""

import os
from pathlib import Path

FOLDER = Path(__file__).with_name("golden")


def check(name: str, text: str) -> None:
    """Compare a text with its file."""
    path = FOLDER / name
    if os.environ.get("IMF_DEPLOY_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), (
        f"{path} differs. If the change is meant, run the test again with IMF_DEPLOY_GOLDEN=write"
    )
