"""Run the ONNX files of a run in other runtimes, and write the table of docs/onnx.md.

    python benchmarks/clients.py imf-deploy-out [--images 60] [--environments FOLDER] [--only NAME …]

Each client is installed in a virtual environment of its own, by pip or npm, and runs every file on test
images at the batches 1 and 5. A cell has the worst of both: the largest difference of a logit from the
product in PyTorch, and the fraction of images that get the same class as in PyTorch. A client that refuses a
file is listed with its own message below the table.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from imf_deploy.artifact import load_artifact
from imf_deploy.checking.clients import (
    ONNXRUNTIME,
    OPENCV,
    OPENVINO,
    TRACT,
    Client,
    NotInstalledError,
    Question,
    RefusedError,
)
from imf_deploy.data import reopen_data
from imf_deploy.method.products import load_product
from imf_deploy.records.files import OnnxFile

BATCHES = (1, 5)
FORMS = ("fp32", "fp16", "int8", "int8-trt")

TRACT_FIXED = """
import tract
def load(path, output):
    def run(batch):
        model = tract.onnx().load(path)
        model.set_input_fact(0, ",".join(map(str, batch.shape)) + ",f32")
        return tract.runtime_for_name("default").prepare(model.into_model()).run([batch])[0].to_numpy()
    return run
"""


def clients() -> list[Client]:
    """Return every client of the table."""
    old = "numpy==1.26.4"
    return [
        Client("ONNX Runtime 1.16", ("onnxruntime==1.16.3", old), ONNXRUNTIME),
        Client("ONNX Runtime 1.18", ("onnxruntime==1.18.1", old), ONNXRUNTIME),
        Client("ONNX Runtime 1.32", ("onnxruntime==1.32.0", "numpy"), ONNXRUNTIME),
        Client("onnxruntime-node 1.30", ("onnxruntime-node@1.30.0",)),
        Client("onnxruntime-web 1.30, wasm", ("onnxruntime-web@1.30.0",)),
        Client("OpenVINO 2026.4", ("openvino==2026.4.0", "numpy"), OPENVINO),
        Client("OpenCV 4.8.1", ("opencv-python-headless==4.8.1.78", old), OPENCV),
        Client("OpenCV 4.9", ("opencv-python-headless==4.9.0.80", old), OPENCV),
        Client("OpenCV 4.13", ("opencv-python-headless==4.13.0.92", "numpy"), OPENCV),
        Client("OpenCV 5.0", ("opencv-python-headless==5.0.0.93", "numpy"), OPENCV),
        Client("tract 0.23, free batch", ("tract==0.23.9", "numpy"), TRACT),
        Client("tract 0.23, given shape", ("tract==0.23.9", "numpy"), TRACT_FIXED),
    ]


def installed(client: Client, folder: Path) -> Path:
    """Return the folder of a client's environment; it is made once."""
    place = folder / "-".join(client.packages).replace("/", "-").replace("==", "-")
    if not (place / "ready").is_file():
        shutil.rmtree(place, ignore_errors=True)
        client.install(place)
        (place / "ready").touch()
    return place


def answers(client: Client, environment: Path, images: np.ndarray, file: Path) -> dict[int, np.ndarray] | str:
    """Return the logits at each batch, or why there are none."""
    try:
        return client.run(environment, Question(file, "logits", images, BATCHES))
    except RefusedError as error:
        return error.what


def form_of(path: Path) -> str:
    """Return ``int8-trt`` and so on, from the name of a file."""
    return next(form for form in reversed(FORMS) if path.stem.endswith(form))


def cell(found: dict[int, np.ndarray] | str, expected: np.ndarray) -> tuple[float, float] | str:
    """Return the largest difference and the agreement, the worse of the batches."""
    if isinstance(found, str):
        return found
    rows = [answers.reshape(len(expected), -1) for answers in found.values()]
    if any(answers.shape != expected.shape for answers in rows):
        return f"another shape: {rows[0].shape}"
    return (
        max(float(np.abs(answers - expected).max()) for answers in rows),
        min(float((answers.argmax(1) == expected.argmax(1)).mean()) for answers in rows),
    )


def text(cells: list[tuple[float, float] | str]) -> str:
    """Return one cell of the table for the same form of several products."""
    numbers = [value for value in cells if not isinstance(value, str)]
    if len(numbers) < len(cells):
        return "refused" if not numbers else f"refused {len(cells) - len(numbers)} of {len(cells)}"
    difference, agreement = max(value[0] for value in numbers), min(value[1] for value in numbers)
    return f"{difference:.0e}, {agreement:.1%}"


def main() -> None:
    """Read the command line, run every client, and print the table and the refusals."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--environments", type=Path, default=Path(tempfile.gettempdir()) / "imf-clients")
    parser.add_argument("--only", nargs="+", default=[])
    given = parser.parse_args()
    files = [load_artifact(path, OnnxFile) for path in sorted((given.run / "deploy").glob("*.onnx"))]
    products = {
        product.artifact.sha256: product
        for product in map(load_product, sorted((given.run / "products").glob("*.safetensors")))
    }
    data = reopen_data(next(iter(products.values())).artifact.data_config)
    chosen = torch.linspace(0, len(data.test) - 1, given.images).round().long()
    pixels = data.preprocess.normalize(data.test.fetch(chosen)).contiguous()
    images = np.ascontiguousarray(pixels.numpy())
    with torch.inference_mode():
        expected = {key: product.module(pixels).numpy() for key, product in products.items()}
    print(f"{len(files)} files, {given.images} images, batches {' and '.join(map(str, BATCHES))}\n")
    print(f"| client | {' | '.join(FORMS)} |\n|---{'|---' * len(FORMS)}|", flush=True)
    refusals = []
    for client in clients():
        if given.only and not any(name.lower() in client.name.lower() for name in given.only):
            continue
        try:
            environment = installed(client, given.environments)
        except NotInstalledError as error:
            print(f"| {client.name} | {error.what} |", file=sys.stderr)
            continue
        cells = defaultdict(list)
        for file in files:
            found = cell(answers(client, environment, images, file.path), expected[file.source])
            cells[form_of(file.path)].append(found)
            if isinstance(found, str):
                refusals.append(f"{client.name}, {file.path.name}: {found}")
        row = [text(cells[form]) if form in cells else "" for form in FORMS]
        print(f"| {client.name} | {' | '.join(row)} |", flush=True)
    print("", *refusals, sep="\n")


if __name__ == "__main__":
    main()
