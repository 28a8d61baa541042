"""Runners: one interface to run a deployable file in any runtime."""

from imf_deploy.runners.base import Batch, DeployableRunner, InputShape, Logits, Runner
from imf_deploy.runners.onnxruntime import OnnxRuntimeRunner
from imf_deploy.runners.openvino import OpenVinoRunner
from imf_deploy.runners.pytorch import PyTorchRunner
from imf_deploy.runners.tensorrt import TensorRTRunner

__all__ = [
    "Batch",
    "DeployableRunner",
    "InputShape",
    "Logits",
    "OnnxRuntimeRunner",
    "OpenVinoRunner",
    "PyTorchRunner",
    "Runner",
    "TensorRTRunner",
]
