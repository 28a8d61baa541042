"""Build a TensorRT engine from an ONNX file; one way for TensorRT 10, 11 and TensorRT-RTX.

Networks are strongly typed, the only kind that all of them have: the precision is the ONNX file's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.export.engine_form import engine_source
from imf_deploy.export.engine_header import EngineHeader, read_engine_header
from imf_deploy.export.flavour import import_tensorrt
from imf_deploy.export.onnx_file import OnnxInfo, describe_onnx
from imf_deploy.export.targets import BatchRange, Flavour, parse_capability
from imf_deploy.files import write_bytes

# Said after every error on a machine without a GPU; it is not the cause.
_NOISE = "CUDA driver version is insufficient"


@dataclass(frozen=True)
class EngineInfo:
    """What was built.

    Attributes:
        path: The engine.
        header: What the written file says about itself.
        batch: Sizes of the batch that it accepts.
        onnx: What it was built from: names, shapes and precision are the same in the engine, which
            cannot be asked for them without a GPU.
        layers: Number of layers of the parsed network.
        warnings: What TensorRT warned of, each once.
    """

    path: Path
    header: EngineHeader
    batch: BatchRange
    onnx: OnnxInfo
    layers: int
    warnings: tuple[str, ...]


def build_engine(
    onnx_path: Path,
    path: Path,
    flavour: Flavour,
    batch: BatchRange,
    compute_capability: tuple[str, ...] = (),
) -> EngineInfo:
    """Build an engine from an ONNX file and write it atomically.

    Args:
        onnx_path: A model whose first dimension is the batch.
        path: The engine to write.
        flavour: The TensorRT to build with and for.
        batch: Sizes of the batch to accept.
        compute_capability: Targets of a TensorRT-RTX engine, such as ``86``; none makes an engine
            that runs on RTX GPUs, Ampere and newer.

    Raises:
        UsageError: the flavour is not installed, or a target or the batch range does not fit.
        DeviceError: the full TensorRT, and no CUDA device.
        ImfDeployError: TensorRT refuses the model, or the engine cannot be written.
    """
    targets = sorted({parse_capability(text) for text in compute_capability}, key=int)
    if targets and flavour == "tensorrt":
        raise UsageError(
            "the full TensorRT builds for the GPU of this machine and no other",
            "Leave --compute-capability out, or use --trt rtx",
        )
    onnx = describe_onnx(onnx_path)
    trt, log, builder, network = _read(onnx_path, flavour)
    config = builder.create_builder_config()
    # On by default, and it rounds the factors of float32 products to 10 bits: fp16 is for that.
    config.clear_flag(trt.BuilderFlag.TF32)
    # Names, formats and tactics of the layers, for imf-deploy bench --layers; kernels stay the same.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _set_targets(trt, config, targets)
    _set_batch(builder, config, network, batch, log)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _failed(f"{trt.__name__} could not build {onnx_path}", log)
    write_bytes(path, bytes(plan))
    warnings = tuple(dict.fromkeys(log.warnings))
    return EngineInfo(path, read_engine_header(path), batch, onnx, network.num_layers, warnings)


def check_readable(onnx_path: Path, flavour: Flavour) -> None:
    """Let TensorRT parse an ONNX file, without building anything.

    Raises:
        UsageError: the flavour is not installed.
        ImfDeployError: TensorRT refuses the model; the message names the operator.
    """
    _read(onnx_path, flavour)


def _read(onnx_path: Path, flavour: Flavour) -> tuple[Any, Any, Any, Any]:
    """Return module, log, builder and the parsed network."""
    trt = import_tensorrt(flavour)
    log = _logger(flavour)
    log.clear()
    builder = trt.Builder(log)
    if not builder:
        raise _failed(f"{trt.__name__} could not start", log)
    # By name: the values of the flags differ between TensorRT 10, 11 and RTX.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, network, onnx_path, log)
    return trt, log, builder, network


def _parse(trt: Any, network: Any, onnx_path: Path, log: Any) -> None:
    parser = trt.OnnxParser(network, log)
    source = engine_source(onnx_path)
    # It refuses Path objects.
    parsed = parser.parse(source) if source else parser.parse_from_file(str(onnx_path))
    if not parsed:
        problems = [_problem(parser.get_error(index)) for index in range(parser.num_errors)]
        raise ImfDeployError(
            f"{trt.__name__} cannot read {onnx_path} ({'; '.join(problems) or 'no reason given'})",
            "Export a model of operators that TensorRT supports",
        )
    # An empty file parses well, into a network of nothing.
    if network.num_outputs == 0 or network.num_inputs != 1:
        raise _failed(f"{onnx_path} is not a model with one input and at least one output", log)


def _problem(error: Any) -> str:
    # Not every error belongs to a node.
    operator, name = error.node_operator(), error.node_name()
    where = f"operator {operator}, node '{name}': " if operator or name else ""
    return where + _one_line(error.desc())


def _set_targets(trt: Any, config: Any, targets: list[str]) -> None:
    if not targets:
        return
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):  # an empty slot fails the build without a word
        capability = getattr(trt.ComputeCapability, f"SM{target}", None)
        if capability is None or not config.set_compute_capability(capability, index):
            raise UsageError(
                f"{trt.__name__} {trt.__version__} cannot build for compute capability {target}",
                "Leave it out, or type: pip install --upgrade tensorrt-rtx",
            )


def _set_batch(builder: Any, config: Any, network: Any, batch: BatchRange, log: Any) -> None:
    images = network.get_input(0)
    dynamic, *rest = tuple(images.shape)
    if -1 in rest:
        raise ImfDeployError(
            f"the input '{images.name}' has dynamic dimensions besides the batch",
            "Export it again with a fixed size of the picture",
        )
    if dynamic != -1:
        if (batch.min, batch.max) != (dynamic, dynamic):
            raise UsageError(f"the ONNX file was made for a batch of {dynamic}", f"Give --batch {dynamic}")
        return
    profile = builder.create_optimization_profile()
    profile.set_shape(images.name, *((size, *rest) for size in (batch.min, batch.opt, batch.max)))
    # Neither call raises where TensorRT does not like the range.
    if not profile or config.add_optimization_profile(profile) < 0:
        raise _failed(f"TensorRT refuses the batch range {batch}", log)


def _failed(what: str, log: Any) -> ImfDeployError:
    """Return an error that ends with TensorRT's own last words."""
    why = "; ".join(list(log.errors)[-3:]) or "it gave no reason"
    hint = ""
    if "Turing" in why and "FP32" in why:
        hint = "Use --precisions fp16, or leave compute capability 75 out"
    return ImfDeployError(f"{what} ({why})", hint)


def _one_line(text: str) -> str:
    return " ".join(text.split())


@cache
def _logger(flavour: Flavour) -> Any:
    """Return the one logger of a flavour: TensorRT keeps the first that it is given for good."""
    trt = import_tensorrt(flavour)

    # The module is chosen while running, so its classes are no types.
    class Collector(trt.ILogger):  # type: ignore[misc,name-defined]
        """Keeps errors and warnings off the terminal, for whoever asks."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.clear()

        def clear(self) -> None:
            self.errors: deque[str] = deque(maxlen=20)
            self.warnings: deque[str] = deque(maxlen=20)

        def log(self, severity: Any, message: str) -> None:
            text = _one_line(message)
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR) and _NOISE not in text:
                self.errors.append(text)
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(text)

    return Collector()
