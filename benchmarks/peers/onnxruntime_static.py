"""onnxruntime.quantization: its defaults, and its documented advice for x86 with 7 and with 8 bits.

The advice (onnxruntime.ai, "Quantize ONNX models"): pre-process first, uint8 activations and int8 weights in
Q/DQ, one scale for each channel, and ``reduce_range`` on processors without VNNI.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Reader(CalibrationDataReader):
    """Reads one image at a time."""

    def __init__(self, name: str, images: Any) -> None:
        self.items = iter([{name: image[None]} for image in images])

    def get_next(self) -> Any:
        """Return the next input, or ``None``."""
        return next(self.items, None)


def main(source: str, images: str, folder: str) -> None:
    """Write the three files."""
    calibration, made = np.load(images), Path(folder)
    name = onnx.load(source).graph.input[0].name
    quantize_static(source, made / "defaults.onnx", Reader(name, calibration))
    prepared = made / "prepared.tmp"
    quant_pre_process(source, prepared)
    for bits, reduce_range in ((8, False), (7, True)):
        quantize_static(
            prepared,
            made / f"advice-{bits}-bits.onnx",
            Reader(name, calibration),
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    prepared.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:4])
