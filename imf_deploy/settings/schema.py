"""The JSON Schema of all settings, for editors and other readers of ``run.json`` and records.

``python -m imf_deploy.settings.schema`` prints it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import TypeAdapter

from imf_deploy import settings


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of every class of settings, by its name."""
    kinds = [getattr(settings, name) for name in settings.__all__]
    inputs = [(kind.__name__, "validation", TypeAdapter(kind)) for kind in kinds]
    _, content = TypeAdapter.json_schemas(inputs)  # type: ignore[arg-type]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of imf-deploy",
        **content,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(settings_schema(), indent=2) + "\n")
