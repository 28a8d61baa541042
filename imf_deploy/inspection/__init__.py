"""Describe a file without running it: ONNX, engines, safetensors, records, runs."""

from imf_deploy.inspection.finding import Finding
from imf_deploy.inspection.stage import inspect

__all__ = ["Finding", "inspect"]
