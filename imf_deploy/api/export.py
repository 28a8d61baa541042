"""``imf_deploy.export_onnx`` and ``imf_deploy.build_engine``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imf_deploy.api.files import File, as_file
from imf_deploy.api.modules import Network, as_product
from imf_deploy.errors import UsageError
from imf_deploy.export.build_options import BuildOptions
from imf_deploy.export.flavour import FlavourOption, choose_flavour
from imf_deploy.export.onnx_writer import OnnxPrecision
from imf_deploy.export.stage import EngineConfig, check_targets, write_engine, write_onnx
from imf_deploy.export.targets import BatchRange, parse_capability, profiles_of
from imf_deploy.export.timing_cache import check_cache
from imf_deploy.preprocess import Preprocess
from imf_deploy.records.files import EngineFile, OnnxFile


def export_onnx(
    network: Network,
    path: str | Path,
    *,
    precision: OnnxPrecision = "fp32",
    image_size: int | None = None,
    preprocess: Preprocess | None = None,
    name: str = "",
    overwrite: bool = True,
) -> OnnxFile:
    """Write a network as one ONNX file, with its record ``<path>.json`` beside it.

    In both precisions the file takes ``images``, ``float32 [batch, 3, S, S]``, and returns ``logits``,
    ``float32 [batch, classes]``. The same network gives the same bytes.

    Example:
        >>> imf_deploy.export_onnx(network, "network-fp32.onnx", image_size=224)

    Args:
        network: A product of :func:`imf_deploy.strip`, any ``nn.Module``, or the file of a product.
        path: The file to write, with the suffix ``.onnx``.
        precision: Of weights and arithmetic: ``fp32`` or ``fp16``.
        image_size: ``S`` in pixels, for a module without ``preprocess``.
        preprocess: How pictures become the input of a module, and the names of its classes; it is kept in the
            file.
        name: What records and reports call a module; empty takes the name of its class.
        overwrite: Whether a file that is there already is replaced.

    Returns:
        The record of the file.

    Raises:
        UsageError: an argument is missing or does not fit, or no file could reproduce the network's answers.
        ImfDeployError: the network cannot be exported, or the file cannot be written.
    """
    path = _with_suffix(path, ".onnx")
    if precision not in ("fp32", "fp16"):
        raise UsageError(f"precision is {precision!r}", "Give fp32 or fp16; imf_deploy.quantize makes int8")
    return write_onnx(as_product(network, image_size, preprocess, name), path, precision, overwrite)


def build_engine(
    onnx: File,
    path: str | Path,
    *,
    batch: BatchRange | Sequence[BatchRange] = BatchRange(1, 1, 32),  # noqa: B008, frozen
    flavour: FlavourOption = "auto",
    compute_capability: Sequence[str] = (),
    options: BuildOptions = BuildOptions(),  # noqa: B008, frozen
    timing_cache: str | Path | None = None,
    overwrite: bool = True,
) -> EngineFile:
    """Build a TensorRT engine from an ONNX file, with its record ``<path>.json`` beside it.

    Example:
        >>> imf_deploy.build_engine("network-fp16.onnx", "network-fp16.engine", compute_capability=["86"])

    Args:
        onnx: The ONNX file; the engine has its precision.
        path: The file to write, with the suffix ``.engine``.
        batch: Sizes of the batch to accept: one range, or one for each optimisation profile.
        flavour: ``rtx`` or ``tensorrt``; ``auto`` takes the one that fits this machine.
        compute_capability: Targets of a TensorRT-RTX engine; none builds for RTX GPUs from Ampere on.
        options: Of the build.
        timing_cache: File that keeps timings; by default it lies beside the engine.
        overwrite: Whether a file that is there already is replaced.

    Returns:
        The record of the engine.

    Raises:
        UsageError: no TensorRT is installed, or an argument does not fit.
        DeviceError: the full TensorRT, and no CUDA device.
        ImfDeployError: TensorRT refuses the file.
    """
    path, file = _with_suffix(path, ".engine"), as_file(onnx)
    if not isinstance(file, OnnxFile):
        raise UsageError(f"{file.path} is an engine", "Give the ONNX file that it was built from")
    cache = Path(timing_cache) if timing_cache else None
    check_cache(cache)
    chosen = choose_flavour(flavour)
    if not chosen.flavour:
        raise UsageError(f"no engine can be built here: {chosen.reason}", "Install tensorrt-rtx")
    targets = tuple(parse_capability(text) for text in compute_capability)
    check_targets(chosen.flavour, targets, [file.precision])
    options.check(chosen.flavour)
    engines = EngineConfig(chosen.flavour, profiles_of(batch), targets, options, cache)
    return write_engine(file, engines, path, overwrite)


def _with_suffix(path: str | Path, suffix: str) -> Path:
    if Path(path).suffix != suffix:
        raise UsageError(f"path is {path}", f"Give a path that ends in {suffix}")
    return Path(path)
