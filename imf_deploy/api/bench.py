"""``imf_deploy.bench``."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from imf_deploy.api.files import File
from imf_deploy.api.modules import as_product
from imf_deploy.benchmark.result import BenchResult
from imf_deploy.benchmark.stage import bench as run
from imf_deploy.image_size import ImageSize
from imf_deploy.method.products import Product
from imf_deploy.records.files import DeployableFile
from imf_deploy.settings import BenchSettings


def bench(
    files: Sequence[File | Product | nn.Module],
    settings: BenchSettings | None = None,
    **changes: Any,
) -> BenchResult:
    """Measure the latency of files and networks side by side, in alternating rounds.

    Example:
        >>> result = imf_deploy.bench([network, "network-fp32.onnx"], image_size=224)
        >>> for row in result.rows:
        ...     print(row.name, row.latency.p50, "ms")

    Args:
        files: ONNX files, engines, products, and modules that take the same input. Ratios are relative to the
            first.
        settings: Ways, batch sizes and times; by default ONNX Runtime and PyTorch on the CPU.
        changes: Single settings by their names, such as ``image_size=224``, ``(160, 256)`` or ``(1, 28, 28)``
            for modules and for files that leave it free, ``batch=(1, 8)``, ``duration=3.0``, ``loads=20`` and
            ``startup=False``.

    Returns:
        One row for each file, way to run it, and batch size, with latencies in milliseconds.

    Raises:
        UsageError: the files or the settings are incompatible.
        DeviceError: there is no GPU for an engine or a device.
        ImfDeployError: a file is damaged, or its runtime is not installed.
    """
    config = replace(settings or BenchSettings(), **changes)
    return run([_measured(file, config.image_size or None) for file in files], config)


def _measured(file: File | Product | nn.Module, image_size: ImageSize | None) -> Path | Product:
    if isinstance(file, Product | nn.Module):
        return as_product(file, image_size)
    return file.path if isinstance(file, DeployableFile) else Path(file)
