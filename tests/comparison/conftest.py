"""Reports of runs, written as a run writes them; numbers chosen so that the right answer is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imf_deploy.records.upgrade import SCHEMA

MakeRun = Callable[..., Path]


def file_row(name: str, **known: Any) -> dict[str, Any]:
    """One file: ``product`` and ``precision`` from its name, the rest as in ``known``."""
    product, _, precision = name.rpartition("-")
    row: dict[str, Any] = {
        "path": f"deploy/net-{name}.onnx",
        "sha256": name.encode().hex(),
        "product": product,
        "precision": precision,
        "format": "onnx",
        "status": "pass",
        "reason": None,
        "accuracy": 0.9,
        "accuracy_interval": [0.88, 0.92],
        "pytorch_accuracy": 0.9,
        "pytorch_accuracy_interval": [0.88, 0.92],
        "agreement": 1.0,
        "max_abs_diff": 1e-6,
        "mean_abs_diff": 1e-7,
        "cosine": 1.0,
        "gate": {"max_accuracy_drop": 1.0, "min_agreement": 0.97},
        "ladder": [],
        "classes": [],
        "worst": [],
        "images": 2000,
        "pytorch_latency_ms": None,
        "speedup": None,
        "threads": 2,
        "batch": 1,
        "memory_bytes": None,
        "parameters": 1000,
        "macs": 5000,
        "size_bytes": 1_000_000,
        "validation_accuracy": 0.9,
    }
    latency = known.pop("ms", 1.0)
    row["latency_ms"] = None if latency is None else {"p50": latency, "p90": latency, "p99": 2 * latency}
    return row | known


FILES = [
    # Best on the test images, not on the validation images: whoever chooses on the former takes it.
    file_row("plain-fp32", ms=2.0, size_bytes=8_000_000, accuracy=0.95, validation_accuracy=0.90),
    file_row("plain-fp16", ms=3.0, size_bytes=4_000_000, accuracy=0.95, validation_accuracy=0.90),
    file_row("imf@1-fp32", ms=0.5, size_bytes=400_000, accuracy=0.80, validation_accuracy=0.82),
    file_row("imf@2-fp32", ms=1.0, size_bytes=2_000_000, accuracy=0.88, validation_accuracy=0.895),
    file_row("imf@3-fp32", ms=2.5, size_bytes=9_000_000, accuracy=0.91, validation_accuracy=0.88),
    file_row(
        "plain-int8", status="fail", reason="agreement 0.5", ms=0.1, size_bytes=1000, validation_accuracy=0.99
    ),
    file_row("imf@1-fp16", status="not-run", reason="no CUDA device", ms=None, accuracy=None,
             accuracy_interval=None, agreement=None, size_bytes=200_000, validation_accuracy=0.82),
]  # fmt: skip


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write the ``report.json`` of a run: the files above, unless others are given."""

    def make(name: str = "run", rows: list[dict[str, Any]] | None = None, **changes: Any) -> Path:
        report: dict[str, Any] = {
            "schema": SCHEMA,
            "student": "net",
            "teacher": "resnet50",
            "dataset": "photos",
            "seed": 0,
            "command": f"imf-deploy distill-and-export --output {name}",
            "teacher_accuracy": 0.96,
            "created": "2026-03-01T12:00:00+00:00",
            "status": "pass",
            "notes": [],
            "environment": {
                "time": name,
                "cpu": "CPU 9000",
                "threads": 2,
                "load_average": [0.1, 0.2, 0.3],
                "versions": {"onnxruntime": "1.32.0", "matplotlib": name},
            },
            "config": {"test_images": 2000, "data_fingerprint": "same"},
            "history": [],
            "blocks": [],
            "strip": [],
            "artifacts": FILES if rows is None else rows,
            "pictures": {},
            "recommendation": None,
        }
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(report | changes))
        return folder

    return make


@pytest.fixture
def one_row() -> Callable[..., dict[str, Any]]:
    """The function that makes a file's row."""
    return file_row
