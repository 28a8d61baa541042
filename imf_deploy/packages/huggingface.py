"""A repository of Hugging Face's form, for transformers.js, optimum, and ONNX Runtime.

Clients know networks by the name of a class of transformers. MobileNetV2's is used for every network: its
image processor scales the shorter side, crops the centre and normalises, in Python and in JavaScript, and
neither client looks inside the ONNX file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imf_deploy.errors import UsageError
from imf_deploy.files import write_json, write_text
from imf_deploy.image_size import sides
from imf_deploy.packages.card import card
from imf_deploy.packages.files import place_file, write_labels
from imf_deploy.packages.source import Source
from imf_deploy.packages.vectors import write_vectors
from imf_deploy.preprocess import Preprocess
from imf_deploy.settings.export import InterfaceSettings

_NAMES = {"fp32": "model", "fp16": "model_fp16", "int8": "model_quantized"}
"""What transformers.js calls a file of each precision."""
_FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}
"""Pillow's numbers of filters."""
_HOW = """\
In JavaScript, with `@huggingface/transformers` (`dtype` is `fp32`, `fp16` or `q8`):

    const classify = await pipeline("image-classification", "OWNER/NAME", {dtype: "fp32"});
    console.log(await classify("photo.jpg"));

In Python, with `optimum[onnxruntime]`:

    model = ORTModelForImageClassification.from_pretrained("OWNER/NAME")
    processor = AutoImageProcessor.from_pretrained("OWNER/NAME")

`config.json` calls the network a MobileNetV2 whatever it is, because clients need a class that they know, and
use it only for the names of the labels and the preparation of images. JavaScript clients scale images by
other filters than Pillow, without antialiasing in browsers; on photos that are much larger than the input,
that can change answers. `imf-deploy export --input uint8-nhwc --input-size any` writes a file that scales
images itself, the same everywhere."""
_GREY = """

The network was trained on grey images. Give it grey images: these clients do not convert colour."""


def write(source: Source, folder: Path) -> None:
    """Write ``config.json``, ``preprocessor_config.json``, ``onnx/model*.onnx`` and ``model.onnx``."""
    preprocess = source.preprocess
    if preprocess.resize == "input":
        raise UsageError(
            "how images become the input of this network is not known, and image processors need it",
            "Give the network its preprocess",
        )
    if preprocess.channels != 3:
        raise UsageError(
            "Hugging Face's image processors make three channels, and this network takes one",
            "Use another package",
        )
    interface = InterfaceSettings(input_name="pixel_values")
    files = [
        place_file(source, origin, folder / "onnx" / f"{_NAMES[precision]}.onnx", interface)
        for precision, origin in source.others.items()
    ]
    # optimum looks for a file at the root.
    root = place_file(source, source.file, folder / "model.onnx", interface)
    write_json(folder / "config.json", _config(preprocess))
    write_json(folder / "preprocessor_config.json", _processor(preprocess))
    write_labels(folder, source)
    write_vectors(folder, source, root)
    head = "---\npipeline_tag: image-classification\nlibrary_name: transformers.js\ntags:\n- onnx\n---\n\n"
    how = _HOW + (_GREY if preprocess.color == "L" else "")
    write_text(folder / "README.md", head + card(source, [root, *files], how))


def _config(preprocess: Preprocess) -> dict[str, Any]:
    labels = preprocess.labels
    return {
        "architectures": ["MobileNetV2ForImageClassification"],
        "model_type": "mobilenet_v2",
        "image_size": max(sides(preprocess.size)),
        "num_channels": 3,
        "num_labels": len(labels),
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def _processor(preprocess: Preprocess) -> dict[str, Any]:
    height, width = sides(preprocess.size)
    return {
        "image_processor_type": "MobileNetV2ImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": preprocess.resize_to},
        "resample": _FILTERS[preprocess.interpolation],
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }
