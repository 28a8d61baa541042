"""Neural Compressor 2.6, the last release that reads ONNX, with its defaults for static quantisation."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from neural_compressor import PostTrainingQuantConfig, quantization


class Loader:
    """Gives one image at a time."""

    batch_size = 1

    def __init__(self, images: Any) -> None:
        self.images = images

    def __iter__(self) -> Any:
        for image in self.images:
            yield image[None], 0


def main(source: str, images: str, folder: str) -> None:
    """Write ``defaults.onnx``."""
    calibration = np.load(images)
    settings = PostTrainingQuantConfig(
        approach="static", quant_format="QDQ", calibration_sampling_size=len(calibration)
    )
    model = quantization.fit(source, settings, calib_dataloader=Loader(calibration))
    model.save(str(Path(folder) / "defaults.onnx"))


if __name__ == "__main__":
    main(*sys.argv[1:4])
