"""Upgrades of records of earlier releases to the form of this one.

A new field with a default and a computed field need no upgrade. A field that is renamed or required needs one
here, and a new :data:`SCHEMA`.
"""

from __future__ import annotations

from typing import Any

from imf_deploy.errors import ImfDeployError
from imf_deploy.settings.upgrade import upgrade_data, upgrade_distill
from imf_deploy.untrusted import shorten

SCHEMA = "0.2.0"
"""Schema of the records: the first release that writes this form."""
_FIRST = 2
"""The schema of release 0.1.0."""
_DEPLOYED = ("precision", "inputs", "outputs")
"""Fields that records of all kinds had, but that only deployable files use."""


def take_schema(content: dict[str, Any], name: str, remake: str) -> bool:
    """Remove the schema of a record, and return whether it is that of release 0.1.0.

    Args:
        content: The record; changed in place.
        name: Name of the record in messages.
        remake: Hint for a record that is older than release 0.1.0.

    Raises:
        ImfDeployError: the record was written by any other release.
    """
    schema = content.pop("schema", None)
    whole = type(schema) is int
    if not (whole or isinstance(schema, str)):
        raise ImfDeployError(f"{name} is not a record of imf-deploy: it has no schema", remake)
    if schema in (SCHEMA, _FIRST):
        return whole
    age, hint = ("an older", remake) if whole and schema < _FIRST else ("a newer", "Update imf-deploy")
    raise ImfDeployError(
        f"{name} was written by {age} version (form {shorten(str(schema), 40)}, this one reads {SCHEMA})",
        hint,
    )


def upgrade_file(content: dict[str, Any]) -> dict[str, Any]:
    """Upgrade the record of a file from release 0.1.0 to this one.

    Invalid content stays as it is, and the validation reports it.
    """
    evidence = content.pop("evidence", None)
    record = content | (evidence if isinstance(evidence, dict) else {})
    if record.get("kind") not in ("onnx", "engine"):
        record = {key: value for key, value in record.items() if key not in _DEPLOYED}
    # Branches had no refining units at first.
    model = record.get("model")
    if isinstance(model, dict) and isinstance(features := model.get("teacher_features"), list):
        model.setdefault("refining", [0] * len(features))
    for name, upgrade in (("config", upgrade_distill), ("data_config", upgrade_data)):
        if isinstance(known := record.get(name), dict):
            record[name] = upgrade(known)
    return record
