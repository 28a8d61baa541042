"""``imf-deploy inspect`` as a user types it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Cli = Callable[..., Any]
Error = Callable[[Any, int], str]


def test_for_people_and_for_machines(cli: Cli, teacher_file: Path) -> None:
    shown = cli("inspect", teacher_file)
    assert (shown.code, shown.err) == (0, "")
    assert "the weights of a teacher: resnet8" in " ".join(shown.out.split())
    told = cli("inspect", teacher_file, "--json")
    assert told.code == 0
    content = json.loads(told.out)
    assert (content["schema"], content["kind"]) == (1, "safetensors")
    assert content["record"]["matches"] is True


def test_mistakes(here: Cli, error: Error, tmp_path: Path) -> None:
    assert "there is no file gone.onnx" in error(here("inspect", "gone.onnx"), 2)
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04")
    assert "pickle" in error(here("inspect", "a.pt"), 2)
    (tmp_path / "a.engine").write_bytes(b"nothing")
    assert "not a TensorRT engine" in error(here("inspect", "a.engine"), 1)
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    assert "not an ONNX file" in error(here("inspect", "a.onnx"), 1)


def test_nothing_that_runs_models_is_imported(tmp_path: Path, teacher_file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from imf_deploy.inspection import inspect; "
        f"inspect(Path({str(teacher_file)!r})); "
        "print([m for m in ('torch', 'onnxruntime', 'tensorrt', 'tensorrt_rtx') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
