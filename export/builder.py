"""One builder of TensorRT for all engines of a command, as the full one takes seconds to load kernels."""

import atexit
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from imf_deploy.errors import ImfDeployError
from imf_deploy.export.flavour import gpu_here, import_tensorrt
from imf_deploy.export.library_log import library_log, one_line
from imf_deploy.settings.export import Flavour

# The name is part of every plan. By default it is "Unnamed Network 3", and the bytes of a plan would depend
# on previous builds.
_NAME = "imf-deploy"


@dataclass(frozen=True)
class Session:
    """The builder of engines of one flavour, on one CUDA device.

    Attributes:
        trt: The Python module.
        log: Its only logger (see :func:`imf_deploy.export.library_log.library_log`).
        builder: An ``IBuilder``.
    """

    trt: Any
    log: Any
    builder: Any

    def parse(self, onnx_path: Path) -> Any:
        """Return the network of an ONNX file, strongly typed.

        Raises:
            ImfDeployError: TensorRT refuses the model; the message names the operator.
        """
        trt = self.trt
        # The values of the flags differ between TensorRT 10, 11 and RTX, so they are looked up by name.
        network = self.builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        network.name = _NAME
        parser = trt.OnnxParser(network, self.log)
        from imf_deploy.export.engine_form import engine_source  # it imports onnx

        source = engine_source(onnx_path)
        # parse_from_file does not accept Path objects.
        if not (parser.parse(source) if source else parser.parse_from_file(str(onnx_path))):
            raise ImfDeployError(
                f"{trt.__name__} cannot read {onnx_path} ({parser_problems(parser)})",
                "Export a model of operators that TensorRT supports",
            )
        # An empty file parses without an error, into an empty network.
        if network.num_outputs == 0 or network.num_inputs != 1:
            raise self.failed(f"{onnx_path} is not a model with one input and at least one output")
        return network

    def failed(self, what: str) -> ImfDeployError:
        """Return an error that ends with TensorRT's last messages."""
        why = self.log.reason()
        hint = ""
        if "Turing" in why and "FP32" in why:
            hint = "Use `precisions` fp16, or leave compute capability 75 out"
        elif "OutOfMemory" in why or "insufficient workspace" in why.lower():
            hint = "Use a larger `workspace`, or leave it out"
        return ImfDeployError(f"{what} ({why})", hint)


def open_session(flavour: Flavour) -> Session:
    """Return the session of a flavour on the current CUDA device, with an empty log.

    Raises:
        UsageError: the flavour is not installed.
        DeviceError: the full TensorRT is requested, but there is no CUDA device.
        ImfDeployError: the library does not start.
    """
    import torch

    trt = import_tensorrt(flavour)
    log = library_log(flavour)
    log.clear()
    return Session(trt, log, _builder(flavour, torch.cuda.current_device() if gpu_here() else -1))


@cache
def _builder(flavour: Flavour, device: int) -> Any:
    trt, log = import_tensorrt(flavour), library_log(flavour)
    builder = trt.Builder(log)
    if not builder:
        raise ImfDeployError(f"{trt.__name__} could not start ({log.reason()})")
    return builder


# This runs before the interpreter removes modules that the builder's destructor still needs.
atexit.register(_builder.cache_clear)


def parser_problems(parser: Any) -> str:
    """Return the errors of an ONNX parser or refitter in one clause."""
    problems = [_problem(parser.get_error(index)) for index in range(parser.num_errors)]
    return "; ".join(problems) or "no reason given"


def _problem(error: Any) -> str:
    # Not every error belongs to a node.
    operator, name = error.node_operator(), error.node_name()
    where = f"operator {operator}, node '{name}': " if operator or name else ""
    return where + one_line(error.desc())
