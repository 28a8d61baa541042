"""Optimum's ORTQuantizer, with its configurations for AVX512-VNNI and for AVX2."""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod
from optimum.onnxruntime import ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig, CalibrationConfig


def main(source: str, images: str, folder: str) -> None:
    """Write a file for each configuration."""
    name = onnx.load(source).graph.input[0].name
    data = [{name: image} for image in np.load(images)]
    minmax = CalibrationConfig("", "", "train", len(data), CalibrationMethod.MinMax)
    for kind, configuration in (
        ("avx512-vnni", AutoQuantizationConfig.avx512_vnni(is_static=True, per_channel=True)),
        ("avx2", AutoQuantizationConfig.avx2(is_static=True, per_channel=True)),
    ):
        with tempfile.TemporaryDirectory() as place:
            model = Path(place) / "model.onnx"
            shutil.copy(source, model)
            quantizer = ORTQuantizer(model)
            ranges = quantizer.fit(
                data,
                minmax,
                str(Path(place) / "augmented.onnx"),
                operators_to_quantize=configuration.operators_to_quantize,
            )
            quantizer.quantize(configuration, place, calibration_tensors_range=ranges)
            shutil.copy(Path(place) / "model_quantized.onnx", Path(folder) / f"{kind}.onnx")


if __name__ == "__main__":
    main(*sys.argv[1:4])
