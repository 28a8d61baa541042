"""Classify images with an ONNX file: python classify.py FILE.onnx IMAGE ..."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def prepare(image, about):
    """Return an image as the network's input, float32 [1, C, H, W]."""
    size = about["size"]
    height, width = size if isinstance(size, list) else (size, size)
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise SystemExit("an image has 32-bit pixels, and the value of white is unknown")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert(about["color"])
    if about["resize"] == "crop":
        # Only the middle of an image that is more than 8 times as long as the input needs.
        left = max(image.width - 8 * image.height * width // height, 0) // 2
        top = max(image.height - 8 * image.width * height // width, 0) // 2
        box = left, top, image.width - left, image.height - top
        shorter = about["resize_to"] / min(height, width)
        scale = max(shorter * width / (box[2] - left), shorter * height / (box[3] - top))
        scaled = max(round((box[2] - left) * scale), width), max(round((box[3] - top) * scale), height)
        kind = Image.Resampling[about.get("interpolation", "bilinear").upper()]
        image = image.resize(scaled, kind, box)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    elif image.size != (width, height):
        raise SystemExit(f"an image is {image.width}x{image.height} pixels, not {width}x{height}")
    mean, std = (255 * np.array(about[key], np.float32) for key in ("mean", "std"))
    pixels = np.atleast_3d(np.asarray(image, np.float32))  # one grey channel is repeated for each mean
    return ((pixels - mean) / std).transpose(2, 0, 1)[None]


if __name__ == "__main__":
    session = onnxruntime.InferenceSession(sys.argv[1])
    about = session.get_modelmeta().custom_metadata_map
    labels, preprocess = json.loads(about["labels"]), json.loads(about["preprocess"])
    for path in sys.argv[2:]:
        images = prepare(Image.open(path), preprocess)
        print(path, labels[session.run(["logits"], {"images": images})[0].argmax()])
