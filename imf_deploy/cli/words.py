"""Checks of the files that a command writes."""

from __future__ import annotations

from pathlib import Path

from imf_deploy.errors import UsageError


def check_free(option: str, path: Path | None, overwrite: bool) -> None:
    """Check that an option's file may be written.

    Raises:
        UsageError: the file exists, and may not be replaced.
    """
    if path and path.exists() and not overwrite:
        raise UsageError(f"{option} {path} already exists", "Give another name, or --overwrite")
