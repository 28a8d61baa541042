"""A plain folder for applications: one file that takes bytes, and clients in six languages."""

from __future__ import annotations

from pathlib import Path

from imf_deploy.errors import UsageError
from imf_deploy.files import write_text
from imf_deploy.packages.card import card
from imf_deploy.packages.files import place_file, read_template, write_labels
from imf_deploy.packages.source import Source
from imf_deploy.packages.vectors import write_vectors
from imf_deploy.settings.export import InterfaceSettings

_CLIENTS = ("classify.py", "classify.mjs", "Classify.java", "classify.go", "classify.rs", "classify.cpp")
_HOW = """\
`model.onnx` takes images of the network's size as bytes and normalises them itself. `clients/` has one small
client in each of six languages. All of them check themselves with the test vectors; the one in Python reads
photos, and the others raw pixels of the network's size:

    pip install onnxruntime numpy pillow
    python clients/classify.py photo.jpg
    python clients/classify.py --check

The head of each file says how it is built. `Dockerfile` makes an image with the Python client; it was
not built when the package was written. `build_engine.py` builds a TensorRT engine on the machine that is to
run it, Jetson included, from `engine.onnx`, the same network with float input, with TensorRT alone, and
checks the engine."""


def write(source: Source, folder: Path) -> None:
    """Write the package; see the head of this file."""
    if source.preprocess.resize == "input":
        raise UsageError(
            "how images become the input of this network is not known, and the clients need it",
            "Give the network its preprocess",
        )
    interface = InterfaceSettings(input="uint8-nhwc")
    file = place_file(source, source.file, folder / "model.onnx", interface)
    float_file = place_file(source, source.others.get("fp32", source.file), folder / "engine.onnx")
    write_labels(folder, source)
    write_vectors(folder, source, file, float_file)
    for name in ("Dockerfile", "build_engine.py", *(f"clients/{name}" for name in _CLIENTS)):
        write_text(folder / name, read_template(name))
    write_text(folder / "README.md", card(source, [file, float_file], _HOW))
