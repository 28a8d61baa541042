"""The result of an inspection, in one form for people and machines."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imf_deploy.files import finite

SCHEMA = 1


@dataclass(frozen=True)
class Finding:
    """The description of a file or a folder.

    Attributes:
        path: Inspected path.
        kind: ``onnx``, ``engine``, ``safetensors``, ``record``, ``report``, ``settings``, ``json``,
            ``run`` or ``folder``.
        title: Description in one clause.
        facts: Contents of the file, as JSON values.
        record: Contents of its sidecar, with ``matches``: whether it belongs to this content; ``None`` if
            there is no sidecar.
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
        return {"schema": SCHEMA, **finite(vars(self)), "path": str(self.path)}
