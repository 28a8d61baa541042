"""Options of an engine's build besides its batches: the full TensorRT's, and those of both libraries."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import sys
from dataclasses import asdict, dataclass, fields
from typing import Any

from imf_deploy.errors import UsageError
from imf_deploy.export.flavour import import_tensorrt
from imf_deploy.export.targets import Flavour

LEVELS = range(6)
"""Levels of the builder's optimisation: 0 builds fastest, 5 tries most."""
_MOST_WORKSPACE_MIB = 1 << 20


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build; the defaults are TensorRT's own.

    Attributes:
        version_compatible: Whether later versions of the same major version of TensorRT also load the engine.
        hardware_compatible: Whether other GPUs from Ampere on also run it.
        level: Optimisation level of the builder, 0 to 5.
        workspace_mib: Maximum scratch memory of a layer in MiB; by default the memory of the GPU.
        strip_weights: Whether the weights can be replaced later; a plan without them is then also written.
    """

    version_compatible: bool = False
    hardware_compatible: bool = False
    level: int | None = None
    workspace_mib: int | None = None
    strip_weights: bool = False

    def __post_init__(self) -> None:
        if self.level is not None and self.level not in LEVELS:
            raise UsageError(f"--builder-level {self.level} is out of range", "Use 0 to 5")
        if self.workspace_mib is not None and not 1 <= self.workspace_mib <= _MOST_WORKSPACE_MIB:
            raise UsageError(f"--workspace {self.workspace_mib} is out of range", "Use at least 1 MiB")

    def check(self, flavour: Flavour) -> None:
        """Refuse options that this library cannot build, before anything is built.

        Raises:
            UsageError: naming the option.
        """
        if flavour == "tensorrt":
            if self.version_compatible:
                _check_lean_runtime(import_tensorrt(flavour).__version__)
            return
        given = {
            "--version-compatible": self.version_compatible,
            "--hardware-compatible": self.hardware_compatible,
            "--builder-level": self.level is not None,
            "--strip-weights": self.strip_weights,
        }
        if option := next((name for name, value in given.items() if value), ""):
            raise UsageError(
                f"{option} is an option of the full TensorRT, but TensorRT-RTX builds these engines",
                "Leave it out, or use --trt tensorrt on a machine with a GPU",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the options that are not at their default, for a record."""
        return {
            field.name: value
            for field, value in zip(fields(self), asdict(self).values(), strict=True)
            if value != field.default
        }

    def apply(self, trt: Any, config: Any) -> None:
        """Set the options of an ``IBuilderConfig``."""
        flags = trt.BuilderFlag
        # TF32 is on by default, and rounds the factors of float32 products to 10 bits; fp16 is the option for
        # that.
        config.clear_flag(flags.TF32)
        # Engines then describe layers with their formats and tactics, at no cost in speed.
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if hasattr(flags, "EDITABLE_TIMING_CACHE"):  # since 10.8; cached layers are rebuilt identically
            config.set_flag(flags.EDITABLE_TIMING_CACHE)
        if self.version_compatible:
            config.set_flag(flags.VERSION_COMPATIBLE)
        if self.hardware_compatible:
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        if self.level is not None:
            config.builder_optimization_level = self.level
        if self.workspace_mib is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self.workspace_mib << 20)
        if self.strip_weights:
            config.set_flag(flags.REFIT)
            config.set_flag(flags.STRIP_PLAN)


def _check_lean_runtime(version: str) -> None:
    """Check that the runtime that is included in an engine for other versions can be loaded.

    Raises:
        UsageError: it is not installed.
    """
    major = version.partition(".")[0]
    with contextlib.suppress(ImportError, OSError):
        importlib.import_module("tensorrt_lean")  # it loads the library, which is then found by its name
    name = f"nvinfer_lean_{major}.dll" if sys.platform == "win32" else f"libnvinfer_lean.so.{major}"
    try:
        ctypes.CDLL(name)
    except OSError as error:
        raise UsageError(
            f"--version-compatible needs TensorRT's lean runtime, and {name} cannot be loaded",
            f'Type: pip install "tensorrt_lean=={version}"',
        ) from error
