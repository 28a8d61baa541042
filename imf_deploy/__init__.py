"""Distil a light image classifier (IMF), strip it, export it, and verify the result.

The verbs work on objects: networks, batches, files. They are imported on first use, so that ``import
imf_deploy`` is fast and does not import PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imf_deploy.api.bench import bench
    from imf_deploy.api.distill import distill
    from imf_deploy.api.export import build_engine, export_onnx
    from imf_deploy.api.quantize import quantize
    from imf_deploy.api.report import write_report
    from imf_deploy.api.strip import strip
    from imf_deploy.api.verify import verify
    from imf_deploy.distillation.distiller import ImfDistiller, ImfLosses
    from imf_deploy.preprocess import Preprocess
    from imf_deploy.settings import (
        BatchRange,
        DataSettings,
        DistillSettings,
        EngineSettings,
        Gate,
        GraphSettings,
        MonitoringSettings,
        QuantizeSettings,
        TrainingSettings,
    )

__version__ = "0.2.0.dev0"
__all__ = [
    "BatchRange",
    "DataSettings",
    "DistillSettings",
    "EngineSettings",
    "Gate",
    "GraphSettings",
    "ImfDistiller",
    "ImfLosses",
    "MonitoringSettings",
    "Preprocess",
    "QuantizeSettings",
    "TrainingSettings",
    "bench",
    "build_engine",
    "distill",
    "export_onnx",
    "quantize",
    "strip",
    "verify",
    "write_report",
]

_MODULES = {
    "BatchRange": "settings",
    "DataSettings": "settings",
    "DistillSettings": "settings",
    "EngineSettings": "settings",
    "Gate": "settings",
    "GraphSettings": "settings",
    "ImfDistiller": "distillation.distiller",
    "ImfLosses": "distillation.distiller",
    "MonitoringSettings": "settings",
    "Preprocess": "preprocess",
    "QuantizeSettings": "settings",
    "TrainingSettings": "settings",
    "bench": "api.bench",
    "build_engine": "api.export",
    "distill": "api.distill",
    "export_onnx": "api.export",
    "quantize": "api.quantize",
    "strip": "api.strip",
    "verify": "api.verify",
    "write_report": "api.report",
}
"""Where each public name is defined."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
