"""NVIDIA ModelOpt's INT8, calibrated by ``max`` and by ``entropy``; its files are for TensorRT."""

import sys
from pathlib import Path

import numpy as np
import onnx
from modelopt.onnx.quantization import quantize


def main(source: str, images: str, folder: str) -> None:
    """Write a file for each method."""
    calibration = np.load(images)
    name = onnx.load(source).graph.input[0].name
    for method in ("max", "entropy"):
        quantize(
            source,
            quantize_mode="int8",
            calibration_data={name: calibration},
            calibration_method=method,
            calibration_eps=["cpu"],
            high_precision_dtype="fp32",
            output_path=str(Path(folder) / f"{method}.onnx"),
        )


if __name__ == "__main__":
    main(*sys.argv[1:4])
