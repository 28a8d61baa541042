"""Read a ``report.json`` that may be anybody's: whatever is not in its form is refused, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from imf_deploy.errors import ImfDeployError
from imf_deploy.files import existing_file, finite, read_json
from imf_deploy.forms import departure
from imf_deploy.report.schema import SCHEMA, Report
from imf_deploy.untrusted import visible


def read_report(path: Path) -> Report:
    """Read ``report.json`` and check every field against :class:`imf_deploy.report.schema.Report`.

    Fields that the form does not know are kept.

    Raises:
        UsageError: there is no such file.
        ImfDeployError: it is damaged, no report, or one of another version.
    """
    content = finite(read_json(existing_file(path, "a run's report.json")))
    schema = content.get("schema")
    if not isinstance(schema, int) or "artifacts" not in content:
        raise ImfDeployError(f"{path} is no report of imf-deploy", "Give the report.json of a run")
    if schema > SCHEMA:
        raise ImfDeployError(
            f"{path} was written by a newer version (form {schema}, this one reads {SCHEMA})",
            "Update imf-deploy",
        )
    if schema < SCHEMA:
        raise ImfDeployError(
            f"{path} was written by an older version (form {schema}, this one reads {SCHEMA})",
            f"Make it again with: {_command(content.get('command'))}",
        )
    problem = departure(content, Report)
    if problem:
        raise ImfDeployError(
            f"{path} is no whole report: {problem}",
            "It is damaged or of another version: run distill-and-export again",
        )
    return cast("Report", content)


def _command(told: Any) -> str:
    """Return the command that a report gives, for a terminal."""
    return visible(told) if isinstance(told, str) and told else "imf-deploy distill-and-export"
