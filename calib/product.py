"""The INT8 files of one product, for every runtime that is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imf_deploy.artifact import Artifact
from imf_deploy.calib.config import CalibrationConfig
from imf_deploy.calib.stage import calibrate
from imf_deploy.data import DataSet
from imf_deploy.errors import GateError
from imf_deploy.export.stage import EngineConfig, write_engine

if TYPE_CHECKING:
    from imf_deploy.strip.products import Product


def export_int8(
    product: Product,
    fp32: Artifact,
    data: DataSet,
    config: CalibrationConfig,
    engines: EngineConfig | None,
    folder: Path,
    overwrite: bool = False,
) -> tuple[list[Artifact], list[str]]:
    """Write the INT8 files of a product from its fp32 ONNX file.

    Args:
        product: The PyTorch model.
        fp32: Its fp32 ONNX file.
        data: Images to calibrate on and to judge by.
        config: How; its target is not looked at.
        engines: How to build the engine; nothing makes the file for ONNX Runtime's CPU alone.
        folder: Where to write.
        overwrite: Whether files that were made in another way may be replaced.

    Returns:
        The artifacts: for ONNX Runtime, then for TensorRT, then the engine. And for each target that
        missed its gate, why: such a product is shipped in float.

    Raises:
        ImfDeployError: a target refuses the model.
    """
    made, declined = [], []
    try:
        made.append(
            calibrate(fp32.path, data, replace(config, target="onnxruntime-cpu"), folder, overwrite=overwrite)
        )
    except GateError as error:
        declined.append(error.what)
    if engines:
        try:
            quantised = calibrate(
                fp32.path, data, replace(config, target="tensorrt"), folder, overwrite=overwrite
            )
        except GateError as error:
            declined.append(error.what)
        else:
            made += [quantised, write_engine(product, quantised, engines, folder, overwrite)]
    return made, declined
