"""A tiny ONNX classifier of 8 x 8 images that says how it prepares them, and images for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper
from PIL import Image
from tiny_onnx import tiny_onnx

from imf_deploy.preprocess import Preprocess

PREPROCESS = Preprocess(8, "crop", 9, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), ("ant", "bee", "cat", "dog"))


def edit(path: Path, change: Callable[[ModelProto], None]) -> Path:
    """Change an ONNX file."""
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


def describe(model: ModelProto, preprocess: Preprocess = PREPROCESS) -> None:
    """Write a preprocessing into the metadata of a file."""
    helper.set_model_props(model, {"preprocess": json.dumps(asdict(preprocess))})


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """The classifier."""
    return edit(tiny_onnx(tmp_path / "tiny.onnx"), describe)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images of different sizes and types, two of them in a folder inside."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(5)
    (folder / "inside").mkdir()
    for number, name in enumerate(
        ["a.png", "b.jpg", "c.png", "d.gif", "e.png", "inside/f.png", "inside/g.png"]
    ):
        pixels = random.integers(0, 256, (11 + number, 20 - number, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder
