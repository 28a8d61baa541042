"""The JSON Schema of all records, for readers that do not use this package.

``python -m imf_deploy.records.schema`` prints it.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from imf_deploy.records.files import KINDS
from imf_deploy.records.report import Report
from imf_deploy.records.upgrade import SCHEMA


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of all records that this release writes.

    The ``kind`` of a sidecar selects its schema; ``report.json`` is a ``Report``.
    """
    mode: Literal["serialization"] = "serialization"
    models: list[type[BaseModel]] = [*KINDS.values(), Report]
    _, content = models_json_schema([(model, mode) for model in models])
    for model in models:
        record = content["$defs"][model.__name__]
        record["properties"] = {"schema": {"const": SCHEMA}} | record["properties"]
        record["required"] = ["schema", *record["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Records of imf-deploy {SCHEMA}",
        "anyOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in models],
        **content,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
