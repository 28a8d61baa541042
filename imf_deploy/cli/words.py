"""Read lists in the values of options, and check names of files; nothing heavy is imported."""

from __future__ import annotations

import re
from pathlib import Path

from imf_deploy.errors import UsageError

WHOLE = re.compile("[0-9]{1,18}")
"""A whole number; ``int`` also takes 1_0 and digits of other scripts."""


def names(text: str) -> tuple[str, ...]:
    """Read words separated by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """Read whole numbers separated by commas.

    Raises:
        UsageError: something else is there.
    """
    words = names(text)
    if not all(WHOLE.fullmatch(word) for word in words):
        raise UsageError(f"{option} {text} is not a list of whole numbers", "Give such as 0,1,2")
    return tuple(int(word) for word in words)


def positive_numbers(option: str, text: str) -> list[int]:
    """Read whole numbers from 1, separated by commas.

    Raises:
        UsageError: something else is there.
    """
    parts = names(text)
    if not parts or not all(WHOLE.fullmatch(part) and int(part) for part in parts):
        raise UsageError(f"{option} {text} is not a list of whole numbers from 1", "Give such as 1,8,32")
    return [int(part) for part in parts]


def check_free(option: str, path: Path | None, overwrite: bool) -> None:
    """Check that a file may be written where an option says.

    Raises:
        UsageError: there is one already.
    """
    if path and path.exists() and not overwrite:
        raise UsageError(f"{option} {path} is there already", "Give another name, or --overwrite")
