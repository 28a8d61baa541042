"""What an inspection found, in one form for people and machines."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imf_deploy.files import finite

SCHEMA = 1


@dataclass(frozen=True)
class Finding:
    """What a file or a folder is.

    Attributes:
        path: What was looked at.
        kind: ``onnx``, ``engine``, ``safetensors``, ``record``, ``report``, ``settings``, ``json``,
            ``run`` or ``folder``.
        title: What it is, in one clause.
        facts: What it says about itself, as JSON values.
        record: What its sidecar says, with ``matches``: whether that belongs to this very content;
            nothing where there is no sidecar.
        warnings: What a reader should know before using it.
    """

    path: Path
    kind: str
    title: str
    facts: dict[str, Any]
    record: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the form for machines; every number in it is finite or null."""
        content: dict[str, Any] = finite(
            {
                "schema": SCHEMA,
                "path": str(self.path),
                "kind": self.kind,
                "title": self.title,
                "facts": self.facts,
                "record": self.record,
                "warnings": self.warnings,
            }
        )
        return content
