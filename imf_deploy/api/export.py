"""``imf_deploy.export_onnx`` and ``imf_deploy.build_engine``."""

import tempfile
from pathlib import Path
from typing import cast

from imf_deploy.api.data import Data, as_split, data_set
from imf_deploy.api.files import File, as_file, with_suffix
from imf_deploy.api.modules import Network, as_product
from imf_deploy.calib.half import HalfOnImages
from imf_deploy.errors import UsageError
from imf_deploy.export.choice import FileChoice
from imf_deploy.export.onnx_writer import OnnxPrecision
from imf_deploy.export.stage import choose_engines, write_engine, write_onnx
from imf_deploy.image_size import ImageSize
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import EngineFile, OnnxFile
from imf_deploy.settings import EngineSettings, GraphSettings, QuantizeSettings
from imf_deploy.settings.export import Precision


def export_onnx(
    network: Network,
    path: str | Path,
    *,
    precision: OnnxPrecision = "fp32",
    calibration: Data | None = None,
    validation: Data | None = None,
    image_size: ImageSize | None = None,
    preprocess: Preprocess | None = None,
    name: str = "",
    graph: GraphSettings = GraphSettings(),  # noqa: B008, frozen
    overwrite: bool = True,
) -> OnnxFile:
    """Write a network as one ONNX file, with its record ``<path>.json`` next to it.

    In both precisions the file takes ``images``, ``float32 [batch, C, H, W]``, and returns ``logits``,
    ``float32 [batch, classes]``. The same network gives the same bytes.

    Example:
        >>> imf_deploy.export_onnx(network, "network-fp32.onnx", image_size=224)

    Args:
        network: A product of :func:`imf_deploy.strip`, any ``nn.Module``, or the file of a product.
        path: Output file, with the suffix ``.onnx``.
        precision: Precision of weights and arithmetic: ``fp32`` or ``fp16``. In fp16, nodes whose weights do
            not fit stay in fp32.
        calibration: Training images for fp16: nodes whose activations on them do not fit stay in fp32 too. At
            most 512 are used.
        validation: Images with labels on which the fp16 file has to pass the default gate; it needs
            ``calibration``.
        image_size: Size of the input of a module without ``preprocess``: the side of a square in pixels,
            ``(height, width)``, or ``(channels, height, width)`` if there is one channel.
        preprocess: How images are prepared as the input of a module, and the names of its classes; it is
            stored in the file.
        name: Name of a module in records and reports; if empty, the name of its class.
        graph: How the file is written, such as its opset.
        overwrite: Whether an existing file is replaced.

    Returns:
        The record of the file.

    Raises:
        UsageError: an argument is missing or invalid, or no file could reproduce the network's answers.
        GateError: fp16 misses its gate; nothing is written.
        ImfDeployError: the network cannot be exported, or the file cannot be written.
    """
    path = with_suffix(path, ".onnx")
    if precision not in ("fp32", "fp16"):
        raise UsageError(f"precision is {precision!r}", "Use fp32 or fp16; imf_deploy.quantize makes int8")
    product = as_product(network, image_size, preprocess, name)
    if calibration is None:
        if validation is not None:
            raise UsageError("validation needs calibration", "Give images for calibration too")
        return write_onnx(product, path, precision, overwrite, graph=graph)
    if precision != "fp16":
        raise UsageError(f"calibration is for fp16, not {precision}", "Leave it out")
    own = product.artifact.preprocess
    data = data_set(
        own,
        train=as_split(calibration, own, "calibration", "train"),
        validation=None if validation is None else as_split(validation, own, "validation", "validation"),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".tmp-") as folder:
        fitter = HalfOnImages(data, QuantizeSettings(), Path(folder))
        return write_onnx(product, path, precision, overwrite, fitter=fitter, graph=graph)


def build_engine(
    onnx: File,
    path: str | Path,
    settings: EngineSettings = EngineSettings(),  # noqa: B008, frozen
    *,
    overwrite: bool = True,
) -> EngineFile:
    """Build a TensorRT engine from an ONNX file, with its record ``<path>.json`` next to it.

    Example:
        >>> settings = EngineSettings(batch=(BatchRange(1, 8, 32),), compute_capability=("86",))
        >>> imf_deploy.build_engine("network-fp16.onnx", "network-fp16.engine", settings)

    Args:
        onnx: ONNX file, whose precision the engine has.
        path: Output file, with the suffix ``.engine``.
        settings: The TensorRT to build with, the batches and GPUs to build for, and build options.
        overwrite: Whether an existing file is replaced.

    Returns:
        The record of the engine.

    Raises:
        UsageError: TensorRT is not installed, or an argument is invalid.
        DeviceError: the full TensorRT is requested, but there is no CUDA device.
        ImfDeployError: TensorRT refuses the file.
    """
    path, file = with_suffix(path, ".engine"), as_file(onnx)
    if not isinstance(file, OnnxFile):
        raise UsageError(f"{file.path} is an engine", "Use the ONNX file that it was built from")
    plan, remark = choose_engines(settings, FileChoice((), (cast("Precision", file.precision),)))
    if plan is None:
        raise UsageError(remark, "Install tensorrt-rtx, which needs no GPU")
    return write_engine(file, plan, path, overwrite)
