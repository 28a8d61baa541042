"""The JSON Schema of the records: what the tool writes fits it, and what it does not write does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from imf_deploy.records.schema import json_schema


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    return jsonschema.Draft202012Validator(json_schema())


def test_what_a_run_writes_fits(validator: jsonschema.Draft202012Validator, finished_run: Path) -> None:
    files = [*finished_run.rglob("*.onnx.json"), *finished_run.rglob("*.safetensors.json")]
    assert len(files) == 4
    for file in [finished_run / "report.json", *files]:
        content = json.loads(file.read_text())
        assert validator.is_valid(content), file
        assert not validator.is_valid(content | {"schema": 2})
        for name in ("schema", "created" if file.name == "report.json" else "sha256"):
            assert not validator.is_valid({key: value for key, value in content.items() if key != name})


def test_it_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imf_deploy.records.schema"], capture_output=True, check=True
    )
    assert json.loads(done.stdout) == json_schema()
