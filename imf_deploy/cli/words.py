"""Check names of files that a command writes."""

from __future__ import annotations

from pathlib import Path

from imf_deploy.errors import UsageError


def check_free(option: str, path: Path | None, overwrite: bool) -> None:
    """Check that a file may be written where an option says.

    Raises:
        UsageError: there is one already.
    """
    if path and path.exists() and not overwrite:
        raise UsageError(f"{option} {path} is there already", "Give another name, or --overwrite")
