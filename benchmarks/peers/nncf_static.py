"""NNCF's post-training quantisation with its defaults: of the ONNX file, and of the model in OpenVINO."""

import sys
from pathlib import Path

import nncf
import numpy as np
import onnx
import openvino


def main(source: str, images: str, folder: str) -> None:
    """Write ``defaults.onnx`` and OpenVINO's ``openvino.xml``."""
    calibration, model = np.load(images), onnx.load(source)
    name = model.graph.input[0].name
    data = nncf.Dataset([{name: image[None]} for image in calibration])
    onnx.save(nncf.quantize(model, data, subset_size=len(calibration)), Path(folder) / "defaults.onnx")
    data = nncf.Dataset([image[None] for image in calibration])
    quantised = nncf.quantize(openvino.Core().read_model(source), data, subset_size=len(calibration))
    openvino.save_model(quantised, Path(folder) / "openvino.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main(*sys.argv[1:4])
