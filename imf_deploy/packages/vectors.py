"""Test vectors: ten images, the tensor that the network sees, its logits, and how far they may differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from imf_deploy.errors import ImfDeployError
from imf_deploy.files import write_bytes, write_json, write_text
from imf_deploy.packages.source import Source
from imf_deploy.portability.session import cpu_session
from imf_deploy.records.files import OnnxFile
from imf_deploy.runners.interface import as_input
from imf_deploy.verification.interface import SAME

FOLDER = "vectors"
RELATIVE = {"fp32": 1e-3, "fp16": 2e-2, "int8": 5e-2}
"""Largest difference on other machines, relative to the largest logit (at least 1)."""


def write_vectors(folder: Path, source: Source, file: OnnxFile, floats: OnnxFile | None = None) -> None:
    """Write ``FOLDER/vectors`` for a packaged file, and check that the file gives its logits.

    ``0.png`` … are the images as the network sees them. ``input.bin`` is the batch of all as the file takes
    it, and ``logits.bin`` its answer, float32; both are little-endian without a header. ``vectors.json``
    holds their shapes and types, the tolerance, and the classes; ``tolerance.txt`` only the tolerance.

    Args:
        folder: Folder of the package.
        source: What is packaged.
        file: The record of the file in the package.
        floats: A second file, with normalised input, whose input and answer become ``float.bin`` and
            ``float_logits.bin``.

    Raises:
        ImfDeployError: the file does not answer as the file of the run does.
    """
    normal = source.normalised()
    (expected,) = cpu_session(source.origin_of(file).path).run(None, {"images": normal})
    batch = as_input(normal, file.interface, file.preprocess)
    name = next(iter(file.inputs))
    (found,) = cpu_session(file.path).run(None, {name: batch})
    largest = max(float(np.abs(expected).max()), 1.0)
    if not float(np.abs(found - expected).max()) <= SAME.relative * largest:
        raise ImfDeployError(f"{file.path.name} does not answer as {source.file.path} does")
    place = folder / FOLDER
    for index, picture in enumerate(_pictures(normal, source)):
        place.mkdir(exist_ok=True)
        Image.fromarray(picture).save(place / f"{index}.png")
    tolerance = RELATIVE[file.precision] * largest
    about = {
        "input": _store(place / "input.bin", batch) | {"name": name},
        "output": _store(place / "logits.bin", found)
        | {"name": next(iter(file.outputs)), "tolerance": tolerance},
        "classes": found.argmax(1).tolist(),
        "correct": source.labels(),
    }
    if floats is not None:
        (logits,) = cpu_session(floats.path).run(None, {next(iter(floats.inputs)): normal})
        about["float_input"] = _store(place / "float.bin", normal)
        about["float_output"] = _store(place / "float_logits.bin", logits)
    write_json(place / "vectors.json", about)
    write_text(place / "tolerance.txt", f"{tolerance:g}\n")


def _store(path: Path, values: npt.NDArray[Any]) -> dict[str, Any]:
    """Write values, and return what ``vectors.json`` says of them."""
    little = values.astype(values.dtype.newbyteorder("<"))
    write_bytes(path, np.ascontiguousarray(little).tobytes())
    return {"file": path.name, "type": str(values.dtype), "shape": list(values.shape)}


def _pictures(normal: npt.NDArray[np.float32], source: Source) -> list[npt.NDArray[np.uint8]]:
    """Return the images as Pillow takes them; none if they were never pictures."""
    if source.preprocess.resize == "input":
        return []
    own = source.preprocess.picture_shape[0]
    mean, std = (
        np.array(values, np.float64)[:own].reshape(1, -1, 1, 1) * 255
        for values in (source.preprocess.mean, source.preprocess.std)
    )
    levels = np.clip(np.rint(normal[:, :own] * std + mean), 0, 255).astype(np.uint8)
    return [picture[0] if own == 1 else picture.transpose(1, 2, 0) for picture in levels]
