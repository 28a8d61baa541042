"""Spoilt files of every kind: each ends in an answer or in an error for the user, never otherwise."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imf_deploy.artifact import load_artifact
from imf_deploy.errors import ImfDeployError
from imf_deploy.export.engine_header import read_engine_header
from imf_deploy.inspection import inspect
from imf_deploy.inspection.render import render
from imf_deploy.models import read_weights
from imf_deploy.records.report import read_report

SPOILT = 40
"""Files of each kind."""
RTX = b"vtrt" + bytes(12) + (200).to_bytes(8, "little") + bytes([1, 7, 1, 116]) + b"vtrt" + bytes(8)


def spoil(content: bytes, seed: int) -> bytes:
    """Return the content with bytes changed, cut off, doubled or put in; sparing no part of it."""
    chance = random.Random(seed)
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 32))):
        # Headers are short and at the front: half of the blows fall there.
        place = chance.randrange(min(len(data), 300) if chance.random() < 0.5 else len(data)) if data else 0
        blow = chance.randrange(5)
        if blow == 0 and data:
            data[place] = chance.randrange(256)
        elif blow == 1:
            del data[place:]
        elif blow == 2:
            data[place:place] = chance.randbytes(chance.choice((1, 8, 100)))
        elif blow == 3:
            data[place : place + 8] = chance.choice((b"\xff" * 8, b"\0" * 8, b"9" * 8, b'"' * 8))
        else:
            data[place:place] = data[place : place + 64]
    return bytes(data)


@pytest.fixture(scope="module")
def whole(finished_run: Path) -> dict[str, Path]:
    """One whole file of every kind that a run holds."""
    folder = finished_run / "deploy"
    onnx_file = next(folder.glob("*-fp32.onnx"))
    return {
        "model.onnx": onnx_file,
        "model.onnx.json": onnx_file.with_name(onnx_file.name + ".json"),
        "student.safetensors": next((finished_run / "products").glob("*.safetensors")),
        "report.json": finished_run / "report.json",
    }


def spoilt(whole: dict[str, Path], name: str, folder: Path) -> Iterator[Path]:
    """Yield spoilt files under one name; an engine needs no whole one, its header is all that is read."""
    content = RTX.ljust(200, b"\1") if name.endswith(".engine") else whole[name].read_bytes()
    prefix = b'{"task": "classify", "imgsz": [32, 32]}'
    path = folder / name
    for seed in range(SPOILT):
        start = len(prefix).to_bytes(4, "little") + prefix if name.startswith("ultra") else b""
        path.write_bytes(spoil(start + content, seed))
        yield path


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("model.onnx", inspect),
        ("model.engine", inspect),
        ("ultralytics.engine", inspect),
        ("student.safetensors", inspect),
        ("model.onnx.json", inspect),
        ("report.json", inspect),
        ("model.engine", read_engine_header),
        ("ultralytics.engine", read_engine_header),
        ("student.safetensors", read_weights),
        ("report.json", read_report),
    ],
)
def test_an_answer_or_an_error(
    whole: dict[str, Path], tmp_path: Path, name: str, read: Callable[[Path], object]
) -> None:
    answers = 0
    for path in spoilt(whole, name, tmp_path):
        try:
            found = read(path)
        except ImfDeployError as error:
            assert "\n" not in error.what
            continue
        answers += 1
        if read is inspect:
            render(found)  # type: ignore[arg-type]
    assert answers < SPOILT


def test_a_spoilt_record_beside_a_whole_file(whole: dict[str, Path], tmp_path: Path) -> None:
    path = Path(shutil.copy(whole["model.onnx"], tmp_path))
    sidecar = path.with_name(path.name + ".json")
    content = whole["model.onnx.json"].read_bytes()
    refused = 0
    for seed in range(SPOILT):
        sidecar.write_bytes(spoil(content, seed))
        render(inspect(path))
        try:
            load_artifact(path)
        except ImfDeployError:
            refused += 1
    assert refused > SPOILT / 2
