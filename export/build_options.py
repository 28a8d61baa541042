"""Options of an engine's build besides its batches: the full TensorRT's, and those of both libraries."""

import contextlib
import ctypes
import importlib
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from imf_deploy.errors import UsageError
from imf_deploy.export.flavour import import_tensorrt
from imf_deploy.settings import BuildSettings
from imf_deploy.settings.export import Flavour


def check_options(options: BuildSettings, flavour: Flavour, targets: Sequence[str] = ()) -> None:
    """Refuse options and targets that this library cannot build, before anything is built.

    Raises:
        UsageError: naming the option.
    """
    if flavour == "tensorrt":
        if targets:
            raise UsageError(
                "the full TensorRT only builds for the GPU of this machine",
                "Leave `compute_capability` out, or use `trt` rtx",
            )
        if options.version_compatible:
            _check_lean_runtime(import_tensorrt(flavour).__version__)
    elif given := next((name for name in changed_options(options) if name != "workspace"), ""):
        raise UsageError(
            f"`{given}` is an option of the full TensorRT, but TensorRT-RTX builds these engines",
            "Leave it out, or use `trt` tensorrt on a machine with a GPU",
        )


def changed_options(options: BuildSettings) -> dict[str, Any]:
    """Return the options of a build that are not at their default, for a record."""
    values = {field.name: getattr(options, field.name) for field in fields(BuildSettings)}
    return {name: value for name, value in values.items() if value is not None and value is not False}


def apply_options(options: BuildSettings, trt: Any, config: Any) -> None:
    """Set the options of an ``IBuilderConfig``."""
    flags = trt.BuilderFlag
    # TF32 is on by default, and rounds the factors of float32 products to 10 bits; fp16 is the option for
    # that.
    config.clear_flag(flags.TF32)
    # Engines then describe layers with their formats and tactics, at no cost in speed.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if hasattr(flags, "EDITABLE_TIMING_CACHE"):  # since 10.8; cached layers are rebuilt identically
        config.set_flag(flags.EDITABLE_TIMING_CACHE)
    if options.version_compatible:
        config.set_flag(flags.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.builder_level is not None:
        config.builder_optimization_level = options.builder_level
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace << 20)
    if options.strip_weights:
        config.set_flag(flags.REFIT)
        config.set_flag(flags.STRIP_PLAN)


def _check_lean_runtime(version: str) -> None:
    """Check that the runtime that is included in an engine for other versions can be loaded.

    Raises:
        UsageError: the runtime is not installed.
    """
    major = version.partition(".")[0]
    with contextlib.suppress(ImportError, OSError):
        importlib.import_module("tensorrt_lean")  # it loads the library, which is then found by its name
    name = f"nvinfer_lean_{major}.dll" if sys.platform == "win32" else f"libnvinfer_lean.so.{major}"
    try:
        ctypes.CDLL(name)
    except OSError as error:
        raise UsageError(
            f"`version_compatible` needs TensorRT's lean runtime, but {name} cannot be loaded",
            f'Type: pip install "tensorrt_lean=={version}"',
        ) from error
