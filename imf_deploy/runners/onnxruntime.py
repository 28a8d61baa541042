"""Run an ONNX file, ours or anybody's, in ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from imf_deploy.compat import usable_cpus
from imf_deploy.errors import DeviceError, ImfDeployError
from imf_deploy.files import existing_file
from imf_deploy.runners.base import Batch, InputShape, Logits

_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (?:Load model from .*? failed:\s*)?")
CPU = ("CPUExecutionProvider",)
PROVIDERS: dict[str, tuple[str, ...]] = {
    "cpu": CPU,
    "cuda": ("CUDAExecutionProvider", *CPU),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", *CPU),
    "rtx": ("NvTensorRTRTXExecutionProvider", "CUDAExecutionProvider", *CPU),
}
"""Short name to execution providers, in order of preference: what the first cannot run, the next does."""


class OnnxRuntimeRunner:
    """An ONNX file with one float32 input; its first output counts as the logits.

    Args:
        path: The file.
        threads: Threads for one operator; by default every CPU that this process may use, since
            ONNX Runtime's own default ignores affinity masks and cgroup quotas.
        providers: Execution providers, in order of preference. The first one must be there:
            ONNX Runtime alone would fall back to the CPU with no more than a log line.
        device_id: Number of the GPU, for providers that use one.
    """

    def __init__(
        self, path: Path, threads: int | None = None, providers: Sequence[str] = CPU, device_id: int = 0
    ) -> None:
        short = providers[0].removesuffix("ExecutionProvider")
        self.name = "onnxruntime" if tuple(providers) == CPU else f"onnxruntime {short}"
        self.input_shape: InputShape = ()
        self._path = path
        self._threads = threads or usable_cpus()
        self._providers = tuple(providers)
        self._device_id = device_id
        self._session: Any = None
        self._input = ""
        self._outputs: list[str] = []

    def __enter__(self) -> Self:
        """Load and optimise the file at the highest level; sets ``input_shape``.

        Raises:
            UsageError: there is no such file.
            DeviceError: the first provider is not available on this machine.
            ImfDeployError: the file is damaged, or is no network with one float32 input.
        """
        import onnxruntime

        existing_file(self._path, "the ONNX model")
        available = onnxruntime.get_available_providers()
        if self._providers[0] not in available:
            raise DeviceError(
                f"ONNX Runtime has no {self._providers[0]} here, only {', '.join(available)}",
                "Install the ONNX Runtime package that brings it (onnxruntime-gpu for CUDA and TensorRT), "
                "or use the CPUExecutionProvider",
            )
        if self._providers[0] not in CPU and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # the CUDA libraries that came with PyTorch or from PyPI
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 4  # whatever matters is raised as well
        try:
            session = onnxruntime.InferenceSession(
                str(self._path),
                options,
                providers=[name for name in self._providers if name in available],
                provider_options=[
                    self._provider_options(name) for name in self._providers if name in available
                ],
            )
        except Exception as error:  # its errors share no base class
            raise ImfDeployError(
                f"ONNX Runtime cannot load {self._path}: {_reason(error)}",
                "Check that it is a whole ONNX file, or export it again",
            ) from error
        if session.get_providers()[0] != self._providers[0]:
            raise DeviceError(
                f"ONNX Runtime cannot start its {self._providers[0]} here",
                "Check the driver, or use the CPUExecutionProvider",
            )
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            found = ", ".join(f"{i.name}: {i.type}" for i in inputs) or "none"
            raise ImfDeployError(f"{self._path} must have one float32 input, and it has {found}")
        self._input = inputs[0].name
        self._outputs = [session.get_outputs()[0].name]
        # A free dimension comes as its name, or as None where it has no name.
        self.input_shape = tuple(d if isinstance(d, int) else None for d in inputs[0].shape)
        self._session = session
        return self

    def _provider_options(self, provider: str) -> dict[str, str]:
        """Return the GPU's number; float32 in CUDA means float32, as in engines, and not TF32."""
        if provider in CPU:
            return {}
        exact = {"use_tf32": "0"} if provider.startswith("CUDA") else {}
        return {"device_id": str(self._device_id), **exact}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the session and its threads."""
        self._session = None

    def infer(self, batch: Batch) -> Logits:
        """Return the first output, ``float32 [N, classes]``.

        Raises:
            ImfDeployError: the file does not take this batch, or the runner was not entered.
        """
        if self._session is None:
            raise ImfDeployError("this OnnxRuntimeRunner is not open", "Use it in a with statement")
        try:
            logits: Logits = self._session.run(self._outputs, {self._input: batch})[0]
        except Exception as error:  # its errors share no base class
            raise ImfDeployError(
                f"{self._path} fails on an input of shape {list(batch.shape)}: {_reason(error)}",
                f"Its input is declared as {list(self.input_shape)}; None is free",
            ) from error
        return logits


def _reason(error: Exception) -> str:
    """Return the first line of an ONNX Runtime error without its number and the path."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return _PREFIX.sub("", first).rstrip(". ")
