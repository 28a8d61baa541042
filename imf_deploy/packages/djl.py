"""A model folder of Deep Java Library: ``model.onnx``, ``synset.txt``, ``serving.properties``."""

from __future__ import annotations

from pathlib import Path

from imf_deploy.errors import UsageError
from imf_deploy.files import write_text
from imf_deploy.image_size import sides
from imf_deploy.packages.card import card
from imf_deploy.packages.files import place_file, write_labels
from imf_deploy.packages.source import Source
from imf_deploy.packages.vectors import write_vectors
from imf_deploy.preprocess import Preprocess

_HOW = """\
DJL 0.29 and newer, with `ai.djl:api` and `ai.djl.onnxruntime:onnxruntime-engine`:

    Criteria<Image, Classifications> criteria = Criteria.builder()
        .setTypes(Image.class, Classifications.class)
        .optModelPath(Paths.get("FOLDER"))
        .optEngine("OnnxRuntime")
        .build();
    try (ZooModel<Image, Classifications> model = criteria.loadModel();
            Predictor<Image, Classifications> predictor = model.newPredictor()) {
        System.out.println(predictor.predict(ImageFactory.getInstance().fromFile(Paths.get("photo.jpg"))));
    }

`serving.properties` names the translator, the size, the normalisation, and the softmax. DJL scales images by
other filters than Pillow; on photos that are much larger than the input, that can change answers."""


def write(source: Source, folder: Path) -> None:
    """Write the package; see the head of this file."""
    if source.preprocess.resize == "input":
        raise UsageError(
            "how images become the input of this network is not known, and DJL's translator needs it",
            "Give the network its preprocess",
        )
    if source.preprocess.channels != 3:
        raise UsageError("DJL normalises three channels, and this network takes one", "Use another package")
    file = place_file(source, source.file, folder / "model.onnx")
    write_labels(folder, source, "synset.txt")
    write_labels(folder, source)
    write_text(folder / "serving.properties", properties(source.preprocess))
    write_vectors(folder, source, file)
    write_text(folder / "README.md", card(source, [file], _HOW))


def properties(preprocess: Preprocess) -> str:
    """Return ``serving.properties``, of which DJL reads the arguments of its translator."""
    height, width = sides(preprocess.size)
    normalise = ",".join(f"{value:g}" for value in (*preprocess.mean, *preprocess.std))
    scaled = round(preprocess.resize_to * max(height, width) / min(height, width))
    resize = f"{preprocess.resize_to},{preprocess.resize_to}" if height == width else f"{scaled},{scaled}"
    lines = {
        "engine": "OnnxRuntime",
        "option.modelName": "model",
        "translatorFactory": "ai.djl.modality.cv.translator.ImageClassificationTranslatorFactory",
        "width": width,
        "height": height,
        "resize": resize,
        "centerCrop": "true",
        "toTensor": "true",
        "normalize": normalise,
        "applySoftmax": "true",
        "synsetFileName": "synset.txt",
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())
