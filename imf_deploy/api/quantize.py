"""``imf_deploy.quantize``."""

import tempfile
from dataclasses import replace
from pathlib import Path

from torch import nn

from imf_deploy.api.data import Data, as_split, data_set
from imf_deploy.api.files import File, as_file, with_suffix
from imf_deploy.api.modules import as_product
from imf_deploy.calib.stage import calibrate
from imf_deploy.export.stage import write_onnx
from imf_deploy.image_size import ImageSize
from imf_deploy.method.products import Product
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import DeployableFile, OnnxFile, sidecar_path
from imf_deploy.settings import Gate, QuantizeSettings


def quantize(
    source: File | Product | nn.Module,
    path: str | Path,
    calibration: Data,
    validation: Data,
    *,
    gate: Gate | None = None,
    settings: QuantizeSettings = QuantizeSettings(),  # noqa: B008, frozen
    image_size: ImageSize | None = None,
    preprocess: Preprocess | None = None,
    overwrite: bool = True,
) -> OnnxFile:
    """Write the INT8 form of a network as an ONNX file, with its record ``<path>.json`` next to it.

    Layers that INT8 harms stay in float until the gate holds on the validation images.

    Example:
        >>> fp32 = imf_deploy.export_onnx(network, "network-fp32.onnx", image_size=224)
        >>> imf_deploy.quantize(fp32, "network-int8.onnx", calibration=train_loader, validation=val_loader)

    Args:
        source: A float32 ONNX file from any exporter; a product; or any ``nn.Module``.
        path: Output file, with the suffix ``.onnx``.
        calibration: Training images that ranges are measured on. At most ``settings.images`` are used.
        validation: Images with labels on which the file is judged.
        gate: Maximum loss of the file on these; by default that of ``settings``.
        settings: Target, method, and number of images.
        image_size: Size of the input of a module without ``preprocess``; see :func:`imf_deploy.export_onnx`.
        preprocess: How images are prepared as the input of a module, or of a file that does not contain it.
        overwrite: Whether an existing file is replaced.

    Returns:
        The record of the file.

    Raises:
        UsageError: an argument is missing or invalid.
        GateError: INT8 misses the gate even with layers in float, or is not at least 3 % faster than the
            float file on this machine and ``settings.keep_int8`` is off; nothing is written.
        ImfDeployError: the model is damaged, or the target refuses it.
    """
    path = with_suffix(path, ".onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".tmp-") as folder:
        if isinstance(source, Product | nn.Module):
            product = as_product(source, image_size, preprocess)
            file: DeployableFile = write_onnx(
                product, Path(folder) / f"{product.artifact.path.name}-fp32.onnx", "fp32"
            )
        else:
            file = as_file(source, preprocess)
        own = file.preprocess
        train = as_split(calibration, own, "calibration", "train")
        held = as_split(validation, own, "validation", "validation")
        if gate is not None:
            settings = replace(settings, gate=gate)
        return calibrate(
            file.path,
            data_set(own, train=train, validation=held),
            replace(settings, images=min(settings.images, len(train))),
            path.parent,
            None if sidecar_path(file.path).is_file() else own,
            ranges_file=Path(folder) / "ranges.json",
            overwrite=overwrite,
            output=path,
        )
